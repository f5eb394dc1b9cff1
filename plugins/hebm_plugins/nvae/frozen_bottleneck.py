"""An inverted bottleneck with frozen weights, as one function on a CPU that allocates as little as possible.

    y = W_3 s(w_2 ⋆ s(W_1 x + b_1) + b_2) + b_3,    s = SiLU,  ⋆ = depthwise

The inner tensors are the largest of an NVAE, and a chain differentiates them at every step. Only the two slopes s'(·)
are kept for the backward pass, and both passes overwrite tensors that are no longer needed. Large batches are computed
in parts, so that an inner tensor stays in the cache until the next operation reads it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from hebm_plugins.fast_convolutions import depthwise, pixels, pointwise

PART = 8 * 2**20
"""Largest size in bytes of an inner tensor, unless that of a single row is larger."""


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
        times = 2 if upsample else 1
        row = len(w1) * x.shape[2:].numel() * times**2 * x.element_size()
        size = max(1, PART // row)
        y = _maps_like(x, len(w3), times)
        slopes: list[Tensor] | None = [] if context.needs_input_grad[0] else None
        for rows in _slices(len(x), size):
            inner = torch.mkldnn_convolution(x[rows], w1, b1, (0, 0), (1, 1), (1, 1), 1)
            _silu_(inner, slopes)
            if upsample:
                inner = F.interpolate(inner, scale_factor=2.0, mode="nearest")
            inner = depthwise(inner, w2, b2)
            _silu_(inner, slopes)
            torch.addmm(b3, pixels(inner), w3.flatten(1).t(), out=pixels(y[rows]))
        context.save_for_backward(w1, w2, w3, *slopes or ())
        context.size, context.times = size, times
        return y

    @staticmethod
    @once_differentiable
    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        w1, w2, w3, *slopes = context.saved_tensors
        w2, of_x = w2.flip(2, 3), _maps_like(grad, w1.shape[1], 1 / context.times)
        parts = zip(_slices(len(grad), context.size), slopes[::2], slopes[1::2], strict=True)
        for rows, first, second in parts:
            inner = pointwise(grad[rows], w3.transpose(0, 1)).mul_(second)
            inner = depthwise(inner, w2)
            if context.times > 1:
                inner = 4 * F.avg_pool2d(inner, 2)
            torch.mm(pixels(inner.mul_(first)), w1.flatten(1), out=pixels(of_x[rows]))
        return of_x, *[None] * 7


def _slices(rows: int, size: int) -> list[slice]:
    return [slice(first, first + size) for first in range(0, rows, size)]


def _maps_like(x: Tensor, channels: int, times: float) -> Tensor:
    """Return new maps `(B, channels, times · H, times · W)` in channels-last format, for x `(B, C, H, W)`."""
    rows, _, height, width = x.shape
    size = (rows, channels, int(times * height), int(times * width))
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _silu_(x: Tensor, slopes: list[Tensor] | None) -> None:
    """Replace x by y = s(x) = x σ(x), and append s'(x) = σ(x) + y (1 − σ(x)) to `slopes`, unless it is None."""
    if slopes is None:
        F.silu(x, inplace=True)
        return
    sigmoid = x.sigmoid()
    x *= sigmoid
    slopes.append(torch.lerp(x, x.new_ones(()), sigmoid, out=sigmoid))
