"""The interface of the score prior's denoisers: one net per layer, given u_t, the time and the decoder's feature."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hebm_plugins.energies.time_embedding import sinusoids
from hebm_plugins.module_lists import ModuleList

Shape = tuple[int, ...]

TICKS = 1000.0
"""Sinusoids are functions of TICKS · t; their longest wavelength is 2π · 10000."""
_LEAST_STD = 1e-3


class Denoiser(nn.Module, ABC):
    """n(u_t, t; feature) of one layer.

    The part that is computed from the feature alone, h, does not depend on t. A draw computes it once.

    Arguments:
        feature: shape of the feature.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, feature: Shape) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature))
        self.register_buffer("std", torch.ones(feature))

    @abstractmethod
    def encoded(self, feature: Tensor) -> Tensor:
        """Return h `(B, …)` of features `(B, *feature)`."""

    @abstractmethod
    def forward(self, noised: Tensor, encoded: Tensor, t: Tensor) -> Tensor:
        """Return n `(B, d)` of u_t `(B, d)`, h and times t, `(B,)` or one for all rows."""

    @torch.no_grad()
    def standardise(self, feature: Tensor) -> None:
        """Standardise later features by the mean and standard deviation of `feature`, `(n, …)`."""
        self.mean.copy_(feature.mean(0))
        self.std.copy_(feature.std(0).clamp(min=_LEAST_STD))

    def standardised(self, feature: Tensor) -> Tensor:
        """Return v = (feature − mean) / std, elementwise."""
        return (feature - self.mean) / self.std

    @staticmethod
    def time_features(t: Tensor, like: Tensor) -> Tensor:
        """Return sinusoids of t, `(B, 128)`, with the type and device of `like`."""
        return sinusoids(TICKS * t, like)


class Denoisers(nn.Module):
    """The denoisers of all layers.

    Arguments:
        layers: the denoisers, top first.
    """

    sees = ("features",)

    def __init__(self, layers: Sequence[Denoiser]) -> None:
        super().__init__()
        self.layers = ModuleList(layers)

    def standardise(self, features: Sequence[Tensor]) -> None:
        """Set the statistics of each layer from its features `(n, …)`, top first."""
        for layer, feature in zip(self.layers, features, strict=True):
            layer.standardise(feature)
