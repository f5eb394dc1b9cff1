"""Energies with one net f_i(z_i, t) per layer, and their form for chains at fixed t."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from hebm.interfaces import EnergyFn
from hebm.latents import LatentLayout, Latents
from hebm_plugins.energies.coordinates import seen, seen_of, sees
from hebm_plugins.energies.time_embedding import distinct, sinusoids
from hebm_plugins.module_lists import ModuleList


class TimeNet(nn.Module, ABC):
    """A net on one layer and sinusoids of t."""

    @abstractmethod
    def forward(self, z: Tensor, e: Tensor) -> Tensor:
        """Return f `(B, K)` of z `(B, *shape)` and sinusoids e, `(B, 128)` or one row for all."""

    @classmethod
    @abstractmethod
    def fold(cls, nets: Sequence[Self], e: Tensor) -> nn.Module:
        """Return S nets of one shape as one, `(B, S, *shape)` → `(B, S, K)`, for fixed e and weights.

        Call it without gradients. It reads each weight once: in training every spectral norm advances by one iteration.
        """


class LayerwiseTimeEnergy(EnergyFn):
    """f_i(z_i, t), one net per layer. The tilt at level t is their sum (arXiv 2405.13910).

    Arguments:
        nets: one per layer, top first.
        coordinate: the input of the nets, one of `COORDINATES`, or `with_feature` of it.
        layout: splits u.
        together: whether `folded` merges the nets of layers with the same shape into one.
        gradient_penalty: weight of `EnergyFn.penalty`.
    """

    def __init__(
        self,
        nets: Sequence[TimeNet],
        coordinate: str,
        layout: LatentLayout,
        together: bool,
        gradient_penalty: float = 0.0,
    ) -> None:
        super().__init__()
        self.nets = ModuleList(nets)
        self.coordinate, self.layout, self.together = coordinate, layout, together
        self.sees, self.gradient_penalty = sees(coordinate), gradient_penalty

    def forward(self, latents: Latents, t: Tensor | None = None) -> Tensor:
        """Return log tilts `(B, L, K)` at levels t `(B,)`; None is level 0. In training spectral norms advance."""
        e = self._sinusoids(t)
        parts = seen(latents, self.layout, self.coordinate)
        return torch.stack([net(part, e) for net, part in zip(self.nets, parts, strict=True)], dim=1)

    def of_layer(self, latents: Latents, layer: int, t: Tensor | None = None) -> Tensor:
        """Return log tilts `(B, K)` of one layer at levels t `(B,)`. Only the net of this layer runs."""
        part = seen_of(latents, self.layout, self.coordinate, layer)
        f: Tensor = self.nets[layer](part, self._sinusoids(t))
        return f

    def _sinusoids(self, t: Tensor | None) -> Tensor:
        return sinusoids(t, next(self.parameters()))

    @torch.no_grad()
    def folded(self, t: Tensor | None = None) -> FoldedLayerwise:
        """Return the same f for chains at levels t. What depends only on t and the weights is computed once.

        The weights are constants, so only z has a gradient. In training mode every spectral norm advances by one
        iteration here and is then fixed. The published code advances it at every step of the chain.
        """
        e = self._sinusoids(distinct(t))
        groups = self._groups()
        nets = [type(self.nets[group[0]]).fold([self.nets[i] for i in group], e) for group in groups]
        return FoldedLayerwise(nets, groups, self.coordinate, self.layout)

    def _groups(self) -> list[list[int]]:
        """Return groups of layers whose nets have the same shapes; without `together`, one group per layer."""
        if not self.together:
            return [[i] for i in range(len(self.nets))]
        groups: dict[tuple[object, ...], list[int]] = {}
        for i, (net, shape) in enumerate(zip(self.nets, self.layout.shapes, strict=True)):
            groups.setdefault((shape, *(p.shape for p in net.parameters())), []).append(i)
        return list(groups.values())


class FoldedLayerwise(EnergyFn):
    """`LayerwiseTimeEnergy` at fixed levels, with fixed weights.

    Arguments:
        nets: one per group, `(B, S, *shape)` → `(B, S, K)`.
        groups: the layers of each group.
        coordinate: the input of the nets, one of `COORDINATES`, or `with_feature` of it.
        layout: splits u.
    """

    def __init__(
        self, nets: Sequence[nn.Module], groups: Sequence[Sequence[int]], coordinate: str, layout: LatentLayout
    ) -> None:
        super().__init__()
        self.nets, self.groups, self.coordinate, self.layout = ModuleList(nets), groups, coordinate, layout
        self.sees = sees(coordinate)
        listed = [i for group in groups for i in group]
        self._order = None if listed == sorted(listed) else [listed.index(i) for i in range(len(listed))]

    def forward(self, latents: Latents, t: Tensor | None = None) -> Tensor:
        """Return log tilts `(B, L, K)` at the levels it was folded for; t is ignored."""
        parts = seen(latents, self.layout, self.coordinate)
        found = [net(_beside(parts, group)) for net, group in zip(self.nets, self.groups, strict=True)]
        f = found[0] if len(found) == 1 else torch.cat(found, dim=1)
        return f if self._order is None else f[:, self._order]


def _beside(parts: Sequence[Tensor], group: Sequence[int]) -> Tensor:
    """Stack the layers of a group, `(B, S, *shape)`."""
    first = parts[group[0]]
    return first.unsqueeze(1) if len(group) == 1 else torch.stack([parts[i] for i in group], dim=1)
