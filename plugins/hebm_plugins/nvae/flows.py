"""Volume-preserving flows of the posterior: z ← z − μ(z) with an autoregressive μ, in raster order and in reverse."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hebm_plugins.fast_elu import ELU
from hebm_plugins.nvae.convolutions import MaskedWNConv2d

EXPANSION = 6


def channel_mask(inputs: int, outputs: int, strict: bool) -> Tensor:
    """Return the mask of the centre tap, `(outputs, inputs)`: which input channels each output channel may see.

    The larger number of channels is divided into blocks, one for each channel of the smaller. A connection is allowed
    if in < out (strict), or in ≤ out.
    """
    narrow = min(inputs, outputs)
    source, target = (torch.arange(n) * narrow // n for n in (inputs, outputs))
    allowed = source[None, :] < target[:, None] if strict else source[None, :] <= target[:, None]
    return allowed.float()


def causal_mask(centre: Tensor, size: int, mirrored: bool) -> Tensor:
    """Return a mask `(O, I, k, k)`: 1 above and left of the centre, `centre` `(O, I)` in it, 0 elsewhere.

    `mirrored` turns the pattern by 180°, but not the channels.
    """
    mask = torch.zeros(*centre.shape, size, size)
    middle = size // 2
    mask[:, :, :middle] = 1
    mask[:, :, middle, :middle] = 1
    mask[:, :, middle, middle] = centre
    return mask.flip(2, 3) if mirrored else mask


class FlowHalf(nn.Module):
    """z − μ(z), μ = conv1×1(ELU(ELU(depthwise5×5(ELU(conv3×3(z)))))), every convolution causal.

    Arguments:
        channels: L of z; the net is six times as wide.
        mirrored: run from the last pixel to the first.
    """

    def __init__(self, channels: int, mirrored: bool) -> None:
        super().__init__()
        wide = EXPANSION * channels
        first = causal_mask(channel_mask(channels, wide, strict=True), 3, mirrored)
        middle = causal_mask(torch.ones(wide, 1), 5, mirrored)
        last = causal_mask(channel_mask(wide, channels, strict=False), 1, mirrored)
        self.spread = MaskedWNConv2d(channels, wide, 3, first, bias=False)
        self.depthwise = MaskedWNConv2d(wide, wide, 5, middle, groups=wide, bias=False)
        self.mean = MaskedWNConv2d(wide, channels, 1, last)
        self.activation = ELU()
        with torch.no_grad():
            self.mean.log_weight_norm.sub_(math.log(10))

    def forward(self, z: Tensor) -> Tensor:
        """Transform z `(B, L, r, r)` with log |det| = 0."""
        hidden = self.activation(self.depthwise(self.activation(self.spread(z))))
        moved: Tensor = z - self.mean(self.activation(hidden))
        return moved


class Flow(nn.Module):
    """A `FlowHalf` in raster order, followed by one in reverse order.

    Arguments:
        channels: L of z.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = FlowHalf(channels, mirrored=False), FlowHalf(channels, mirrored=True)

    def forward(self, z: Tensor) -> Tensor:
        """Transform z `(B, L, r, r)` with log |det| = 0."""
        moved: Tensor = self.second(self.first(z))
        return moved
