"""The nets of the score prior: one for each layer, on u_t, the time and the decoder's feature."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hebm.latents import LatentLayout
from hebm.perturbations import Dropout
from hebm_plugins.energies.layerwise import started
from hebm_plugins.energies.mlp import ACTIVATIONS
from hebm_plugins.energies.mlp_time import MLPTimeNet
from hebm_plugins.energies.time_embedding import sinusoids
from hebm_plugins.module_lists import ModuleList

TICKS = 1000.0
"""Sinusoids are of TICKS · t: their longest wave is 2π · 10000."""
_LEAST_STD = 1e-3


class Denoiser(nn.Module):
    """n(u_t, t; feature) of one layer: `MLPTimeNet` on [u_t, h], with h = a(W c v + b) and v the standardised feature.

    c = √(width / elements of v), at most 1, and W starts as much larger. Without it, a step of Adam would change h in
    proportion to the thousands of elements that a feature map has. h does not depend on t, so a draw computes it once.
    The last layer starts at 0.

    Arguments:
        size: d, elements of the layer.
        feature: elements of the feature.
        width, depth: of the perceptron; h has `width` elements too.
        activation: a, by name.
        dropout: of h and every hidden layer in training.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, size: int, feature: int, width: int, depth: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature))
        self.register_buffer("std", torch.ones(feature))
        self.feature, self.activation = nn.Linear(feature, width), ACTIVATIONS[activation]()
        self.scale, self.dropout = min(1.0, math.sqrt(width / feature)), Dropout(dropout)
        with torch.no_grad():
            self.feature.weight.div_(self.scale)
        self.net = MLPTimeNet(size + width, width, depth, size, activation, False, dropout)
        started(self.net.out, True)

    @torch.no_grad()
    def standardise(self, feature: Tensor) -> None:
        """Set the mean and deviation that features are standardised by to those of `feature` `(n, …)`."""
        flat = feature.flatten(1)
        self.mean.copy_(flat.mean(0))
        self.std.copy_(flat.std(0).clamp(min=_LEAST_STD))

    def encoded(self, feature: Tensor) -> Tensor:
        """Return h `(B, width)` of features `(B, …)`."""
        v = (feature.flatten(1) - self.mean) / self.std
        h: Tensor = self.dropout(self.activation(self.feature(self.scale * v)))
        return h

    def forward(self, noised: Tensor, encoded: Tensor, t: Tensor) -> Tensor:
        """Return n `(B, d)` of u_t `(B, d)`, h `(B, width)` and times t, `(B,)` or one for all rows."""
        n: Tensor = self.net(torch.cat([noised, encoded], dim=1), sinusoids(TICKS * t, noised))
        return n


class Denoisers(nn.Module):
    """The denoisers of all layers, top first.

    Arguments:
        layout: of the backbone, with its features.
        widths, depths: of each layer's net.
        activation: by name.
        dropout: in training.
    """

    sees = ("features",)

    def __init__(
        self, layout: LatentLayout, widths: Sequence[int], depths: Sequence[int], activation: str, dropout: float
    ) -> None:
        super().__init__()
        self.layers = ModuleList(
            Denoiser(size, math.prod(feature), width, depth, activation, dropout)
            for size, feature, width, depth in zip(layout.sizes, layout.features, widths, depths, strict=True)
        )

    def standardise(self, features: Sequence[Tensor]) -> None:
        """Standardise the features of each layer by those given, `(n, …)`, top first."""
        for layer, feature in zip(self.layers, features, strict=True):
            layer.standardise(feature)
