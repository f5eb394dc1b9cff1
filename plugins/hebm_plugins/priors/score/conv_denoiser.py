"""The denoiser of a spatial layer: a small U-net.

    x_0 = C u_t + h,  h = W v + P
    x_{k+1} = C x_k with stride 2,            until the longer side is at most 4
    y = `blocks` residual blocks with kernel 5 on the smallest map, where each position sees nearly all others
    y ← R(x_k + C' y), from the smallest map back to x_0, R a residual block with kernel 3
    n = C silu(y), which starts at 0

C is a convolution, C' a transposed convolution with stride 2, v the standardised feature and P a learned map. If the
feature is a map with the layer's height and width, W is a 1×1 convolution; otherwise it is a linear layer onto a map.

A perceptron on flattened maps would have 20 times the weights, and memorises the training images quickly.

References:
    U-Net: Convolutional Networks for Biomedical Image Segmentation, arXiv 1505.04597.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hebm.perturbations import Dropout
from hebm_plugins.energies.image_conv import halvings
from hebm_plugins.energies.time_embedding import SINUSOIDS
from hebm_plugins.module_lists import ModuleList
from hebm_plugins.priors.score.denoiser import Denoiser, Shape
from hebm_plugins.priors.score.mlp_denoiser import EvenLinear

_TIME_WIDTH = 64
_SMALL, _WIDE = 3, 5
"""Kernel sizes of residual blocks: on the larger maps, and on the smallest map."""
_START = 0.3
"""Factor of the initial weights of residual branches, so that blocks without normalisation start near the identity."""


class TimeBlock(nn.Module):
    """x + C_2 dropout(silu((1 + a) C_1 silu(x) + b)), [a, b] linear in the embedded time.

    Arguments:
        channels: channels of x.
        kernel: kernel size of both convolutions, an odd number.
        dropout: dropout rate in training.
    """

    def __init__(self, channels: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        self.time = nn.Linear(_TIME_WIDTH, 2 * channels)
        self.dropout = Dropout(dropout)
        self.second = nn.Conv2d(channels, channels, kernel, padding=kernel // 2)
        with torch.no_grad():
            self.second.weight.mul_(_START)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """Return maps `(B, channels, h, w)`, given x and the embedded time e, `(B, 64)` or one row for all."""
        a, b = self.time(e)[:, :, None, None].chunk(2, dim=1)
        y = F.silu((1 + a) * self.first(F.silu(x)) + b)
        out: Tensor = x + self.second(self.dropout(y))
        return out


class FeatureMap(nn.Module):
    """h = W v + P, `(B, channels, *sides)`.

    Arguments:
        feature: shape of v.
        channels: channels of h.
        sides: height and width of the layer.
    """

    def __init__(self, feature: Shape, channels: int, sides: Shape) -> None:
        super().__init__()
        self.shape = (channels, *sides)
        fits = len(feature) == 3 and feature[1:] == sides
        self.weight: nn.Module = (
            nn.Conv2d(feature[0], channels, 1) if fits else EvenLinear(math.prod(feature), math.prod(self.shape))
        )
        self.position = nn.Parameter(0.1 * torch.randn(self.shape))

    def forward(self, v: Tensor) -> Tensor:
        """Return h of standardised features `(B, *feature)`."""
        h: Tensor = self.weight(v).view(-1, *self.shape) + self.position
        return h


class ConvDenoiser(Denoiser):
    """n(u_t, t; feature) as a U-net; see the module's description.

    Arguments:
        shape: shape of the layer, `(c, h, w)`.
        feature: shape of the feature.
        channels: channels of every convolution.
        blocks: number of residual blocks on the smallest map.
        dropout: dropout rate of every residual block in training.
    """

    def __init__(self, shape: Shape, feature: Shape, channels: int, blocks: int, dropout: float) -> None:
        super().__init__(feature)
        self.shape, scales = shape, range(halvings(shape))
        self.feature = FeatureMap(feature, channels, shape[1:])
        self.time = nn.Linear(SINUSOIDS, _TIME_WIDTH)
        self.stem = nn.Conv2d(shape[0], channels, 3, padding=1)
        self.down = ModuleList(nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in scales)
        self.smallest = ModuleList(TimeBlock(channels, _WIDE, dropout) for _ in range(blocks))
        self.up = ModuleList(nn.ConvTranspose2d(channels, channels, 2, stride=2) for _ in scales)
        self.larger = ModuleList(TimeBlock(channels, _SMALL, dropout) for _ in scales)
        self.out = nn.Conv2d(channels, shape[0], 3, padding=1)
        for parameter in self.out.parameters():
            nn.init.zeros_(parameter)

    def encoded(self, feature: Tensor) -> Tensor:
        """Return h `(B, channels, h, w)`."""
        h: Tensor = self.feature(self.standardised(feature))
        return h

    def forward(self, noised: Tensor, encoded: Tensor, t: Tensor) -> Tensor:
        """Return n `(B, d)` of u_t `(B, d)`, h `(B, channels, h, w)` and times t."""
        e = F.silu(self.time(self.time_features(t, noised)))
        maps = [self.stem(noised.view(-1, *self.shape)) + encoded]
        for down in self.down:
            maps.append(down(maps[-1]))
        y = maps.pop()
        for block in self.smallest:
            y = block(y, e)
        for up, block in zip(self.up, self.larger, strict=True):
            x = maps.pop()
            y = block(x + up(y)[:, :, : x.shape[2], : x.shape[3]], e)
        n: Tensor = self.out(F.silu(y)).flatten(1)
        return n
