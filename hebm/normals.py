"""Diagonal normal distributions, which prior and posterior of latent layers use."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor


class Normal(NamedTuple):
    """N(mean, diag std²) per row.

    Arguments:
        mean, std: `(B, *shape)`, or broadcastable to it.
    """

    mean: Tensor
    std: Tensor

    def at(self, noise: Tensor) -> Tensor:
        """Return mean + std ξ, for ξ `(B, *shape)`."""
        return self.mean + self.std * noise

    def standardised(self, value: Tensor) -> Tensor:
        """Return (value − mean) / std."""
        return (value - self.mean) / self.std

    def in_units_of(self, other: Normal) -> Normal:
        """Return N((mean − mean') / std', (std / std')²), the distribution of `other.standardised(value)`."""
        return Normal(other.standardised(self.mean), self.std / other.std)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return Σ log N(value; mean, std²) over all dimensions but the first, `(B,)`."""
        terms = -0.5 * self.standardised(value).square() - self.std.log() - 0.5 * math.log(2 * math.pi)
        return terms.flatten(1).sum(1)

    def kl(self, other: Normal) -> Tensor:
        """Return KL(self ‖ other) = Σ ½ ((μ − μ')/σ')² + ½ (σ/σ')² − ½ − log(σ/σ'), `(B,)`.

        The parameters of `self` must have the full shape.
        """
        shift, ratio = self.in_units_of(other)
        return (0.5 * (shift.square() + ratio.square() - 1) - ratio.log()).flatten(1).sum(1)
