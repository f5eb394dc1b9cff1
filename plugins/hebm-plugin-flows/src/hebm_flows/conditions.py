"""What the flow of a layer is conditioned on: the decoder's feature there, or the layers above, summarised by a net."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from hebm.interfaces import Latents
from hebm.perturbations import Dropout
from torch import Tensor, nn
from typing_extensions import override

LEAST_STD = 1e-3
"""The smallest deviation that a feature is divided by: the top layer's feature may be constant."""


class Condition(nn.Module, ABC):
    """c of one layer, a function of the layers above.

    Attributes:
        sees: the inputs that c is computed from, as in `EnergyFn.sees`.
        width: the number of coordinates of c; 0 without conditions.
    """

    sees: tuple[str, ...] = ()
    width: int = 0

    @abstractmethod
    def forward(self, latents: Latents) -> Tensor | None:
        """Return c `(B, …, width)` for B points, or None for a flow without conditions."""

    def standardise(self, latents: Latents) -> None:
        """Set the statistics of the inputs from draws of the root."""


class Nothing(Condition):
    """Leaves a flow without a condition: p(u_i | c_i) = p(u_i)."""

    @override
    def forward(self, latents: Latents) -> None:
        return None


class Above(Condition):
    """A perceptron's summary of u of the layers above.

    Arguments:
        above: the slice of u with these layers.
        width: the number of coordinates of c.
        dropout: the dropout rate of the hidden layer, in training only.
    """

    def __init__(self, above: slice, width: int, dropout: float) -> None:
        super().__init__()
        self.above, self.width = above, width
        self.net = _perceptron(above.stop - above.start, width, dropout)

    @override
    def forward(self, latents: Latents) -> Tensor:
        c: Tensor = self.net(latents.u[:, self.above])
        return c


class _OfFeature(Condition):
    """A net's summary of the decoder's feature, which is standardised first.

    Arguments:
        layer: the number of the layer, 0 for the top.
        shape: the shape of its feature.
        width: the number of coordinates of c.
        net: maps standardised features to c.
    """

    sees = ("features",)
    mean: Tensor
    std: Tensor

    def __init__(self, layer: int, shape: tuple[int, ...], width: int, net: nn.Module) -> None:
        super().__init__()
        self.layer, self.width, self.net = layer, width, net
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("std", torch.ones(shape))

    @torch.no_grad()
    def standardise(self, latents: Latents) -> None:
        """Set the mean and deviation of the feature from draws of the root."""
        feature = latents.features[self.layer]
        self.mean.copy_(feature.mean(0))
        self.std.copy_(feature.std(0).clamp(min=LEAST_STD))

    def _standardised(self, latents: Latents) -> Tensor:
        return (latents.features[self.layer] - self.mean) / self.std


class Feature(_OfFeature):
    """A perceptron's summary of the whole feature, one for the layer.

    Arguments:
        layer: the number of the layer, 0 for the top.
        shape: the shape of its feature.
        width: the number of coordinates of c.
        dropout: the dropout rate of the hidden layer, in training only.
    """

    def __init__(self, layer: int, shape: tuple[int, ...], width: int, dropout: float) -> None:
        super().__init__(layer, shape, width, _perceptron(math.prod(shape), width, dropout))

    @override
    def forward(self, latents: Latents) -> Tensor:
        c: Tensor = self.net(self._standardised(latents).flatten(1))
        return c


class FeatureMap(_OfFeature):
    """A convolutional summary of the feature around each position, plus a learned bias of the position.

    A feature of another size is resized to that of the layer; a flat feature is repeated.

    Arguments:
        layer: the number of the layer, 0 for the top.
        shape: the shape of its feature, `(channels, height, width)` or `(channels,)`.
        size: the height and width of the layer.
        width: the number of coordinates of c.
        dropout: the dropout rate of the hidden layer, in training only.
    """

    def __init__(self, layer: int, shape: tuple[int, ...], size: tuple[int, int], width: int, dropout: float) -> None:
        hidden = nn.Conv2d(shape[0], width, 3, padding=1)
        net = nn.Sequential(hidden, nn.SiLU(), Dropout(dropout), nn.Conv2d(width, width, 3, padding=1))
        super().__init__(layer, shape, width, net)
        self.size, self.bias = size, nn.Parameter(torch.zeros(width, *size))

    def forward(self, latents: Latents) -> Tensor:
        """Return c `(B, height, width of the layer, width of c)`."""
        feature = self._standardised(latents)
        grid = feature if feature.ndim == 4 else feature[..., None, None]
        c: Tensor = self.net(nn.functional.interpolate(grid, self.size)) + self.bias
        return c.movedim(1, -1)


def _perceptron(inputs: int, width: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), Dropout(dropout), nn.Linear(width, width))
