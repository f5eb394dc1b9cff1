"""Energies that are multi-layer perceptrons on flat latents."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.interfaces import EnergyFn, EnergyRecipe, Gradients
from hebm.latents import LatentLayout, Latents
from hebm.perturbations import Dropout
from hebm_plugins.energies.coordinates import COORDINATE_DOC, COORDINATES, seen, seen_shapes
from hebm_plugins.energies.layerwise import LayerwiseEnergy, expect_one_level, last_of, started
from hebm_plugins.energies.mlp_gradient import with_gradient
from hebm_plugins.module_lists import ModuleList

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky-relu": lambda: nn.LeakyReLU(0.2),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
}


def mlp(sizes: tuple[int, ...], activation: str, dropout: float | None = None) -> nn.Sequential:
    """Build linear layers of the given sizes, each but the last followed by an activation and dropout.

    With `dropout = None` the net has no dropout modules, so its weights have other names than with a rate of 0.
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
    """f(z), one net over the concatenation of all layers.

    Arguments:
        net: `(B, D)` → `(B, K)`.
        coordinate: "z" or "u".
    """

    def __init__(self, net: nn.Sequential, coordinate: str) -> None:
        super().__init__()
        self.net, self.coordinate = net, coordinate

    def forward(self, latents: Latents, t: Tensor | None = None) -> Tensor:
        """Return log tilts `(B, 1, K)`."""
        f: Tensor = self.net(self._seen(latents)).unsqueeze(1)
        return f

    def value_and_grad(self, latents: Latents, t: Tensor | None = None) -> Gradients:
        """Return log tilts `(B, 1, K)` and their gradient, see `hebm.interfaces.Differentiates`."""
        f, grad = with_gradient(self.net, self._seen(latents))
        if self.coordinate == "u":
            return Gradients(f.unsqueeze(1), u=grad)
        parts = torch.split(grad, [part[0].numel() for part in latents.z], dim=1)
        return Gradients(f.unsqueeze(1), tuple(map(Tensor.view_as, parts, latents.z)))

    def _seen(self, latents: Latents) -> Tensor:
        return latents.flat_z if self.coordinate == "z" else latents.u


class PerceptronEnergy(LayerwiseEnergy):
    """f_i(z_i) or f_i(u_i), one perceptron per layer, with gradients by back-propagation without a graph.

    Arguments:
        nets: one per layer, top first, from `mlp` without dropout.
        coordinate: "z" or "u".
        layout: splits u.
    """

    nets: ModuleList[nn.Sequential]

    def __init__(self, nets: Sequence[nn.Sequential], coordinate: str, layout: LatentLayout) -> None:
        super().__init__(nets, coordinate, layout, flat=True)

    def value_and_grad(self, latents: Latents, t: Tensor | None = None) -> Gradients:
        """Return log tilts `(B, L, K)` and their gradient, see `hebm.interfaces.Differentiates`."""
        parts = seen(latents, self.layout, self.coordinate)
        found = [with_gradient(net, part.flatten(1)) for net, part in zip(self.nets, parts, strict=True)]
        f, grads = torch.stack([value for value, _ in found], dim=1), [grad for _, grad in found]
        if self.coordinate == "u":
            return Gradients(f, u=self.layout.join(grads))
        return Gradients(f, tuple(map(Tensor.view_as, grads, parts)))


@recipe
class MLPConcat(EnergyRecipe):
    """f(z) = MLP([z_L, …, z_1]), one net over all layers, as in the hierarchical-features EBM (ICCV 2023).

    Example:
        >>> from hebm import ImageSpec, TwoLayer
        >>> energy = MLPConcat(width=16).build(TwoLayer(z_dims=(2, 8)).build(ImageSpec(1, 28, 28)).layout)
        >>> energy.net[0].in_features
        10
    """

    width: int = option(128, doc="units of every hidden layer", low=1)
    depth: int = option(2, doc="hidden layers", low=1, high=1000)
    activation: str = option(
        "silu", doc="activation between layers (leaky-relu has slope 0.2)", choices=tuple(ACTIVATIONS)
    )
    coordinate: str = option("z", doc="input of the net: latents z or standardised u", choices=("z", "u"))
    zero_init: bool = option(True, doc="start at f = 0, where the prior is its root")

    def build(self, layout: LatentLayout, logits: int = 1, levels: int = 1) -> ConcatEnergy:
        """Build the net for this layout."""
        expect_one_level(levels, "mlp-concat")
        net = mlp((layout.dim, *(self.width,) * self.depth, logits), self.activation)
        started(last_of(net), self.zero_init)
        return ConcatEnergy(net, self.coordinate)


@recipe
class MLP(EnergyRecipe):
    """f(z) = Σ_i MLP_i(z_i), one net per layer (arXiv 2306.06323). Spatial layers are flattened.

    The published nets are `width = [100, 200], depth = [2, 3], activation = "leaky-relu", zero_init = false`.

    Example:
        >>> from hebm import ImageSpec, TwoLayer
        >>> energy = MLP(width=(100, 200), depth=(2, 3)).build(TwoLayer().build(ImageSpec(1, 28, 28)).layout)
        >>> len(energy.nets)
        2
    """

    width: int | tuple[int, ...] = option(128, doc="units of every hidden layer; one number or one per layer", low=1)
    depth: int | tuple[int, ...] = option(
        2, doc="hidden layers; one number or one per latent layer, top first", low=1, high=1000
    )
    activation: str = option(
        "silu", doc="activation between layers (leaky-relu has slope 0.2)", choices=tuple(ACTIVATIONS)
    )
    coordinate: str = option("z", doc=COORDINATE_DOC, choices=COORDINATES)
    zero_init: bool = option(True, doc="start at f = 0, where the prior is its root")

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
        if self.coordinate == "z-given-above":  # its gradient in σ would be needed, too
            return LayerwiseEnergy(nets, self.coordinate, layout, flat=True)
        return PerceptronEnergy(nets, self.coordinate, layout)
