"""Energies f_i by one net per layer, and what recipes of energies without time have in common."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hebm.errors import ConfigError
from hebm.interfaces import EnergyFn
from hebm.latents import LatentLayout, Latents
from hebm_plugins.energies.coordinates import seen, seen_of, sees


class LayerwiseEnergy(EnergyFn):
    """f_i(z_i) by one net per layer, the prior's tilt being their sum.

    Arguments:
        nets: one per layer, top first, → `(B, K)`; each sees `(B, *shape_i)`, or `(B, size_i)` if `flat`.
        coordinate: what they see, one of `COORDINATES`, or `with_feature` of it.
        layout: splits u.
        flat: flatten what a net sees.
        gradient_penalty: weight of `EnergyFn.penalty`.
    """

    def __init__(
        self,
        nets: Sequence[nn.Module],
        coordinate: str,
        layout: LatentLayout,
        flat: bool = False,
        gradient_penalty: float = 0.0,
    ) -> None:
        super().__init__()
        self.nets, self.coordinate, self.layout, self.flat = nn.ModuleList(nets), coordinate, layout, flat
        self.sees, self.gradient_penalty = sees(coordinate), gradient_penalty

    def forward(self, latents: Latents, t: Tensor | None = None) -> Tensor:
        """Return log tilts `(B, L, K)`."""
        parts = seen(latents, self.layout, self.coordinate)
        return torch.stack([self._score(net, part) for net, part in zip(self.nets, parts, strict=True)], dim=1)

    def of_layer(self, latents: Latents, layer: int, t: Tensor | None = None) -> Tensor:
        """Return log tilts `(B, K)` of one layer, by its net alone."""
        return self._score(self.nets[layer], seen_of(latents, self.layout, self.coordinate, layer))

    def _score(self, net: nn.Module, part: Tensor) -> Tensor:
        f: Tensor = net(part.flatten(1) if self.flat else part)
        return f


def last_of(net: nn.Sequential) -> nn.Linear:
    """Return the linear layer that a net ends with."""
    return next(part for part in reversed(net) if isinstance(part, nn.Linear))


def started(out: nn.Linear, zero: bool) -> None:
    """Set a net's last layer to 0 if `zero`, so that f = 0: the tilted prior starts as its base."""
    if zero:
        nn.init.zeros_(out.weight)
        nn.init.zeros_(out.bias)


def expect_one_level(levels: int, name: str, instead: str = "use a time-aware energy") -> None:
    """Raise `ConfigError` if a prior asks the energy `name`, which knows no time, for more than one level."""
    if levels > 1:
        raise ConfigError(f"prior.energy: {name!r} knows no time, and this prior asks for {levels} levels; {instead}")
