"""Energies that are multi-layer perceptrons on flat latents."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.interfaces import EnergyFn, EnergyRecipe
from hebm.latents import LatentLayout, Latents
from hebm.perturbations import Dropout
from hebm_plugins.energies.coordinates import COORDINATE_DOC, COORDINATES, seen_shapes
from hebm_plugins.energies.layerwise import LayerwiseEnergy, expect_one_level, last_of, started

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky-relu": lambda: nn.LeakyReLU(0.2),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
}


def mlp(sizes: tuple[int, ...], activation: str, dropout: float | None = None) -> nn.Sequential:
    """Build linear layers between `sizes`, with an activation after each but the last, and dropout after that.

    Without dropout (None) the net has no such module, and other names of its weights than at a rate of 0.
    """
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        between = [ACTIVATIONS[activation](), *([] if dropout is None else [Dropout(dropout)])]
        layers += (between if i else []) + [nn.Linear(a, b)]
    return nn.Sequential(*layers)


def per_layer(value: int | tuple[int, ...], layers: int, key: str) -> tuple[int, ...]:
    """Return one number per latent layer, top first. Raises `ConfigError` if a tuple has another length."""
    values = (value,) * layers if isinstance(value, int) else value
    if len(values) != layers:
        raise ConfigError(f"{key} has {len(values)} entries for {layers} latent layers; give one number or {layers}")
    return values


class ConcatEnergy(EnergyFn):
    """f(z) by one net over the concatenation of all layers.

    Arguments:
        net: `(B, D)` → `(B, K)`.
        coordinate: "z" or "u".
    """

    def __init__(self, net: nn.Sequential, coordinate: str) -> None:
        super().__init__()
        self.net, self.coordinate = net, coordinate

    def forward(self, latents: Latents, t: Tensor | None = None) -> Tensor:
        """Return log tilts `(B, 1, K)`."""
        f: Tensor = self.net(latents.flat_z if self.coordinate == "z" else latents.u).unsqueeze(1)
        return f


@recipe
class MLPConcat(EnergyRecipe):
    """One net over all layers: f(z) = MLP([z_L, …, z_1]), as in the hierarchical-features EBM (ICCV 2023)."""

    width: int = option(128, doc="units of every hidden layer", low=1)
    depth: int = option(2, doc="hidden layers", low=1, high=1000)
    activation: str = option(
        "silu", doc="activation between layers (leaky-relu has slope 0.2)", choices=tuple(ACTIVATIONS)
    )
    coordinate: str = option("z", doc="what the net sees: latents z or standardised u", choices=("z", "u"))
    zero_init: bool = option(True, doc="start at f = 0, the base prior itself")

    def build(self, layout: LatentLayout, logits: int = 1, levels: int = 1) -> ConcatEnergy:
        """Build the net for this layout."""
        expect_one_level(levels, "mlp-concat")
        net = mlp((layout.dim, *(self.width,) * self.depth, logits), self.activation)
        started(last_of(net), self.zero_init)
        return ConcatEnergy(net, self.coordinate)


@recipe
class MLP(EnergyRecipe):
    """One net per layer: f(z) = Σ_i MLP_i(z_i) (arXiv 2306.06323; spatial layers are flattened).

    The published nets are `width = [100, 200], depth = [2, 3], activation = "leaky-relu", zero_init = false`.
    """

    width: int | tuple[int, ...] = option(128, doc="units of every hidden layer; one number or one per layer", low=1)
    depth: int | tuple[int, ...] = option(
        2, doc="hidden layers; one number or one per latent layer, top first", low=1, high=1000
    )
    activation: str = option(
        "silu", doc="activation between layers (leaky-relu has slope 0.2)", choices=tuple(ACTIVATIONS)
    )
    coordinate: str = option("z", doc=COORDINATE_DOC, choices=COORDINATES)
    zero_init: bool = option(True, doc="start at f = 0, the base prior itself")

    def build(self, layout: LatentLayout, logits: int = 1, levels: int = 1) -> LayerwiseEnergy:
        """Build a net for each layer of this layout."""
        expect_one_level(levels, "mlp")
        widths = per_layer(self.width, len(layout), "prior.energy.width")
        depths = per_layer(self.depth, len(layout), "prior.energy.depth")
        nets = [
            mlp((math.prod(shape), *(width,) * depth, logits), self.activation)
            for shape, width, depth in zip(seen_shapes(layout, self.coordinate), widths, depths, strict=True)
        ]
        for net in nets:
            started(last_of(net), self.zero_init)
        return LayerwiseEnergy(nets, self.coordinate, layout, flat=True)
