"""The factors of p(u): flows over slices of u, each given the layers above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import torch
from hebm.interfaces import Latents
from torch import Tensor, nn

from hebm_flows.bijection import Bijection
from hebm_flows.conditions import Condition


class Factor(nn.Module):
    """p(u_i | c_i), a flow over a slice of u given the layers above.

    Arguments:
        name: the name of the transition that draws it.
        place: the slice of u.
        bijection: the flow.
        condition: gives c from the layers above.
        positions: the shape `(C, H, W)` of a layer with one flow over the C channels of every position; None for one
            flow over the whole slice.
    """

    def __init__(
        self,
        name: str,
        place: slice,
        bijection: Bijection,
        condition: Condition,
        positions: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.name, self.place, self.positions = name, place, positions
        self.bijection, self.condition = bijection, condition

    def log_ratio(self, latents: Latents) -> Tensor:
        """Return log p(u_i | c) − log N(u_i; 0, I), `(B,)`, in nats."""
        u = self._arranged(latents.u[:, self.place])
        ratio = self.bijection.log_ratio(u, self.condition(latents))
        return ratio if self.positions is None else ratio.flatten(1).sum(1)

    def drawn(self, v: Tensor, latents: Latents) -> Tensor:
        """Return u_i `(B, d)` for noise v ~ N(0, I) `(B, d)`, given the layers above."""
        return self._flat(self.bijection.inverse(self._arranged(v), self.condition(latents)))

    def _arranged(self, u: Tensor) -> Tensor:
        """Return u_i `(B, d)` with the coordinates of a flow last: `(B, d)`, or `(B, H, W, C)`."""
        return u if self.positions is None else u.reshape(-1, *self.positions).movedim(1, -1)

    def _flat(self, u: Tensor) -> Tensor:
        return u if self.positions is None else u.movedim(-1, 1).flatten(1)


class Factors(nn.Module):
    """log p(u) = Σ_i log p(u_i | c_i(z_above)).

    Arguments:
        factors: top first; their slices cover u.
    """

    def __init__(self, factors: Sequence[Factor]) -> None:
        super().__init__()
        self.factors = nn.ModuleList(factors)

    def __iter__(self) -> Iterator[Factor]:
        """Iterate over the factors, top first."""
        return iter(cast(Sequence[Factor], self.factors))

    def log_ratios(self, latents: Latents) -> Tensor:
        """Return log p(u_i | c_i) − log N(u_i; 0, I) of each factor, `(B, E)`, in nats."""
        return torch.stack([factor.log_ratio(latents) for factor in self], dim=1)

    def standardise(self, latents: Latents) -> None:
        """Set the statistics of all conditions from draws of the root."""
        for factor in self:
            factor.condition.standardise(latents)
