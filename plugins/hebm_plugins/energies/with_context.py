"""Energies that see the context next to the latents."""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.interfaces import EnergyFn, EnergyRecipe, sees_of
from hebm.latents import LatentLayout, Latents
from hebm_plugins.energies.mlp import MLP


class ContextEnergy(EnergyFn):
    """f(z, c): another energy on latents [z_i, c], each layer flat with c appended.

    Arguments:
        energy: made for flat layers of sizes d_i + d_c.
        layout: of the latents without c.
    """

    def __init__(self, energy: EnergyFn, layout: LatentLayout) -> None:
        super().__init__()
        self.energy, self.layout = energy, layout

    def forward(self, latents: Latents, t: Tensor | None = None) -> Tensor:
        """Return log tilts `(B, E, K)`."""
        f: Tensor = self.energy(self._joined(latents), t)
        return f

    def of_layer(self, latents: Latents, layer: int, t: Tensor | None = None) -> Tensor:
        """Return log tilts `(B, K)` of one energy."""
        return self.energy.of_layer(self._joined(latents), layer, t)

    def folded(self, t: Tensor | None = None) -> EnergyFn:
        """Fold the other energy."""
        return ContextEnergy(self.energy.folded(t), self.layout)

    def penalty(self, latents: Latents, t: Tensor | None = None) -> Tensor | None:
        """Return the other energy's penalty."""
        return self.energy.penalty(self._joined(latents), t)

    def _joined(self, latents: Latents) -> Latents:
        """Append c to each layer's z and u, with σ = 1."""
        if latents.context is None:
            raise ConfigError("prior.energy: 'with-context': these latents have no context; use the energy itself")
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
    """f(z, c): an energy for flat layers (mlp, mlp-concat, mlp-time) that sees the context with each layer's latents.

    For backbones whose layers are conditioned on a context: dvp. Without it an energy sees z alone and learns an
    average over contexts, unless its coordinate is z-given-above, whose μ_i and σ_i follow c.
    """

    energy: EnergyRecipe = option(factory=MLP, doc="the energy to extend; it is built for layers of d_i + d_c numbers")

    def build(self, layout: LatentLayout, logits: int = 1, levels: int = 1) -> ContextEnergy:
        """Build the energy. Raises `ConfigError` for a layout without a context."""
        if layout.context is None:
            raise ConfigError(
                'prior.energy.type = "with-context": this backbone has no context; use the energy itself, or '
                'backbone.type = "dvp"'
            )
        size = math.prod(layout.context)
        flat = attrs.evolve(layout, shapes=tuple((d + size,) for d in layout.sizes))
        energy = self.energy.build(flat, logits, levels)
        if seen := sees_of(energy):
            raise ConfigError(
                f'prior.energy.type = "with-context": its energy sees {" and ".join(map(repr, seen))}, which the '
                "decoder computes from the context too; use that energy itself"
            )
        return ContextEnergy(energy, layout)
