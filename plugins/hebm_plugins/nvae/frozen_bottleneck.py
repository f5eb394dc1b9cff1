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
        first = _product(x, w1.flatten(1).t(), b1)
        inner = F.silu(first)
        if upsample:
            inner = F.interpolate(inner, scale_factor=2.0, mode="nearest")
        second = _depthwise(inner, w2, b2)
        context.save_for_backward(first, second, w1, w2, w3)
        context.upsample = upsample
        return _product(torch.ops.aten.silu.out(second, out=inner), w3.flatten(1).t(), b3)

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        first, second, w1, w2, w3 = context.saved_tensors
        inner = _silu_backward(_product(grad, w3.flatten(1)), second)
        inner = _depthwise(inner, w2.flip(2, 3))
        if context.upsample:
            inner = 4 * F.avg_pool2d(inner, 2)
        return _product(_silu_backward(inner, first), w1.flatten(1)), *[None] * 7


def _product(x: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x `(B, I, H, W)` times a matrix `(I, O)`, plus a bias, as channels-last `(B, O, H, W)`."""
    batch, inputs, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(-1, inputs)
    y = rows @ matrix if bias is None else torch.addmm(bias, rows, matrix)
    return y.view(batch, height, width, -1).permute(0, 3, 1, 2)


def _depthwise(x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    height, width = kernel.shape[2:]
    return F.conv2d(x, kernel, bias, padding=(height // 2, width // 2), groups=len(kernel))


def _silu_backward(grad: Tensor, x: Tensor) -> Tensor:
    """Return grad · s'(x), in the memory of `grad`."""
    y: Tensor = torch.ops.aten.silu_backward.grad_input(grad, x, grad_input=grad)
    return y
