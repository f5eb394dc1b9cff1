"""An inverted bottleneck with frozen weights, as one function on a CPU that allocates as little as possible.

    y = W_3 s(w_2 ⋆ s(W_1 x + b_1) + b_2) + b_3,    s = SiLU,  ⋆ = depthwise

The inner tensors are the largest of an NVAE, and a chain differentiates them at every step. Only the two arguments of
SiLU are kept for the backward pass, and both passes overwrite tensors that are no longer needed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from hebm_plugins.fast_convolutions import depthwise, pointwise


def frozen_bottleneck(x: Tensor, expand: nn.Conv2d, spatial: nn.Conv2d, project: nn.Conv2d, upsample: bool) -> Tensor:
    """Return y `(B, O, H', W')` of x `(B, I, H, W)`, both channels-last; differentiable in x, once.

    Arguments:
        x: the input.
        expand: a 1×1 convolution, W_1 and b_1.
        spatial: a depthwise convolution that keeps the size, w_2 and b_2.
        project: a 1×1 convolution, W_3 and b_3.
        upsample: whether to double the resolution (nearest) before `spatial`.
    """
    weights = [part for conv in (expand, spatial, project) for part in (conv.weight, conv.bias)]
    y: Tensor = _FrozenBottleneck.apply(x, upsample, *weights)
    return y


class _FrozenBottleneck(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, upsample: bool, *weights: Tensor) -> Tensor:
        w1, b1, w2, b2, w3, b3 = weights
        first = pointwise(x, w1, b1)
        inner = F.silu(first)
        if upsample:
            inner = F.interpolate(inner, scale_factor=2.0, mode="nearest")
        second = depthwise(inner, w2, b2)
        context.save_for_backward(first, second, w1, w2, w3)
        context.upsample = upsample
        return pointwise(torch.ops.aten.silu.out(second, out=inner), w3, b3)

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        first, second, w1, w2, w3 = context.saved_tensors
        inner = _silu_backward(pointwise(grad, w3.transpose(0, 1)), second)
        inner = depthwise(inner, w2.flip(2, 3))
        if context.upsample:
            inner = 4 * F.avg_pool2d(inner, 2)
        return pointwise(_silu_backward(inner, first), w1.transpose(0, 1)), *[None] * 7


def _silu_backward(grad: Tensor, x: Tensor) -> Tensor:
    """Return grad · s'(x), in the memory of `grad`."""
    y: Tensor = torch.ops.aten.silu_backward.grad_input(grad, x, grad_input=grad)
    return y
