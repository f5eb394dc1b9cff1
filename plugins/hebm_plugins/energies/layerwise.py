"""Energies with one net f_i per layer, and functions shared by the recipes of energies without time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hebm.errors import ConfigError
from hebm.interfaces import EnergyFn
from hebm.latents import LatentLayout, Latents
from hebm_plugins.energies.coordinates import seen, seen_of, sees


class LayerwiseEnergy(EnergyFn):
    """f_i(z_i), one net per layer. The tilt of the prior is their sum.

    Arguments:
        nets: one per layer, top first. Each maps `(B, *shape_i)`, or `(B, size_i)` if `flat`, to `(B, K)`.
        coordinate: the input of the nets, one of `COORDINATES`, or `with_feature` of it.
        layout: splits u.
        flat: flatten the inputs.
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
        """Return log tilts `(B, K)` of one layer. Only the net of this layer runs."""
        return self._score(self.nets[layer], seen_of(latents, self.layout, self.coordinate, layer))

    def _score(self, net: nn.Module, part: Tensor) -> Tensor:
        f: Tensor = net(part.flatten(1) if self.flat else part)
        return f


def last_of(net: nn.Sequential) -> nn.Linear:
    """Return the last linear layer of a net."""
    return next(part for part in reversed(net) if isinstance(part, nn.Linear))


def started(out: nn.Linear, zero: bool) -> None:
    """Set a net's last layer to 0 if `zero`, so that f = 0 and the tilted prior starts as its root."""
    if zero:
        nn.init.zeros_(out.weight)
        nn.init.zeros_(out.bias)


def expect_one_level(levels: int, name: str, instead: str = "use a time-aware energy") -> None:
    """Raise `ConfigError` if a prior has more than one level and the energy `name` does not depend on time."""
    if levels > 1:
        raise ConfigError(
            f"prior.energy: {name!r} does not depend on time, and this prior has {levels} levels; {instead}"
        )
