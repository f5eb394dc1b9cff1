"""`ELU`, a several times faster form of `torch.nn.ELU` on CPUs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override


class ELU(nn.ELU):
    """y = x for x > 0, else e^x − 1.

    On CPUs, `torch.expm1` takes about ten times as long as `torch.exp`. In float32 and float64 this class therefore
    takes 1 from e^x. The difference is rounding: at most one unit in the last place of 1.
    """

    def __init__(self) -> None:
        super().__init__()

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Return y, of the shape of the input."""
        exact = input.dtype in (torch.float32, torch.float64)
        if input.device.type == "cpu" and exact and not torch.compiler.is_compiling():
            fast: Tensor = _ELU.apply(input)
            return fast
        return super().forward(input)


class _ELU(torch.autograd.Function):
    """e^min(x, 0) − 1 + max(x, 0); differentiable twice."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        y = x.clamp_max(0).exp_().sub_(1).add_(x.clamp_min(0))
        context.save_for_backward(y)
        return y

    @staticmethod
    def backward(context: Any, *grads: Tensor) -> Tensor:
        (grad,), (y,) = grads, context.saved_tensors
        of_x: Tensor = torch.ops.aten.elu_backward(grad, 1.0, 1.0, 1.0, True, y)
        return of_x
