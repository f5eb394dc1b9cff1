"""Energies that see the context in addition to the latents."""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor
from typing_extensions import override

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.interfaces import EnergyFn, EnergyRecipe, sees_of
from hebm.latents import LatentLayout, Latents
from hebm_plugins.energies.mlp import MLP


class ContextEnergy(EnergyFn):
    """f(z, c): another energy on latents [z_i, c], each layer flat with c appended.

    Arguments:
        energy: an energy for flat layers of sizes d_i + d_c.
        layout: the latent layout without c.
    """

    def __init__(self, energy: EnergyFn, layout: LatentLayout) -> None:
        super().__init__()
        self.energy, self.layout = energy, layout

    @override
    def forward(self, latents: Latents, t: Tensor | None = None) -> Tensor:
        f: Tensor = self.energy(self._joined(latents), t)
        return f

    def of_layer(self, latents: Latents, layer: int, t: Tensor | None = None) -> Tensor:
        """Return log tilts `(B, K)` of one energy."""
        return self.energy.of_layer(self._joined(latents), layer, t)

    @override
    def folded(self, t: Tensor | None = None) -> EnergyFn:
        return ContextEnergy(self.energy.folded(t), self.layout)

    def penalty(self, latents: Latents, t: Tensor | None = None) -> Tensor | None:
        """Return the other energy's penalty."""
        return self.energy.penalty(self._joined(latents), t)

    def _joined(self, latents: Latents) -> Latents:
        """Append c to each layer's z and u, with σ = 1."""
        if latents.context is None:
            raise ConfigError("prior.energy: 'with-context': these latents have no context; use the inner energy alone")
        c = latents.context.flatten(1)
        z = [torch.cat([part.flatten(1), c], dim=1) for part in latents.z]
        u = torch.cat([part for layer in self.layout.split(latents.u) for part in (layer.flatten(1), c)], dim=1)
        ones = torch.ones_like(c)
        sigma = [
            torch.cat([s.expand_as(part).flatten(1), ones], dim=1)
            for s, part in zip(latents.sigma, latents.z, strict=True)
        ]
        return Latents(u, tuple(z), tuple(sigma), latents.context)


@recipe
class WithContext(EnergyRecipe):
    """f([z_i, c]): an energy for flat layers (mlp, mlp-concat, mlp-time) that also sees the context c at each layer.

    Use it with backbones whose layers are conditioned on a context, such as dvp. Without the context, an energy learns
    an average over contexts, unless its coordinate is z-given-above, where μ_i and σ_i depend on c.

    Example:
        >>> from hebm import DVP, ImageSpec
        >>> layout = DVP().build(ImageSpec(1, 28, 28)).layout
        >>> energy = WithContext(energy=MLP(width=16)).build(layout)
        >>> energy.count(layout) == len(layout)
        True
    """

    energy: EnergyRecipe = option(factory=MLP, doc="the energy to extend, built for layers of d_i + d_c elements")

    def build(self, layout: LatentLayout, logits: int = 1, levels: int = 1) -> ContextEnergy:
        """Build the energy. Raises `ConfigError` for a layout without a context."""
        if layout.context is None:
            raise ConfigError(
                'prior.energy.type = "with-context": this backbone has no context; use the inner energy alone, or '
                'backbone.type = "dvp"'
            )
        size = math.prod(layout.context)
        flat = attrs.evolve(layout, shapes=tuple((d + size,) for d in layout.sizes))
        energy = self.energy.build(flat, logits, levels)
        if seen := sees_of(energy):
            raise ConfigError(
                f'prior.energy.type = "with-context": the inner energy sees {" and ".join(map(repr, seen))}, which '
                "already depends on the context; use that energy alone"
            )
        return ContextEnergy(energy, layout)
