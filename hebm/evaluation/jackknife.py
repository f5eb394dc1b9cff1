"""Compute standard errors by the delete-a-group jackknife.

    se² = (G − 1)/G Σ_g (θ₍g₎ − θ̄)²,    θ₍g₎ an estimate without group g of the images, θ̄ the mean of these G estimates

Images are divided into G groups at random, in the same way for every set. An image and its reconstruction, or two draws
from the same noise, are therefore removed together, and errors of combined numbers account for shared images.

References:
    Phillip S. Kott, The Delete-a-Group Jackknife, Journal of Official Statistics 17(4), 2001, pages 521–526, Eq. 2.
    Bradley Efron, Robert J. Tibshirani, An Introduction to the Bootstrap, 1993, Eq. 11.5 (G = N).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import torch
from torch import Tensor

GROUPS = 100
"""G, the number of groups, or the number of images if that is smaller."""

BOUND = 1.96
"""Number of standard errors on each side of a 95 % interval."""

_SEED = 0
_FEWEST = 3


@attrs.frozen(eq=False)
class Estimate:
    """A number θ together with its values θ₍g₎ without each group of images.

    Arguments:
        value: θ, from all images.
        deleted: θ₍g₎, float64 `(G,)`; empty if there are too few images.
    """

    value: float
    deleted: Tensor

    @property
    def error(self) -> float | None:
        """Return the standard error; None if there are too few images."""
        groups = len(self.deleted)
        if groups < 2:
            return None
        squares = (self.deleted - self.deleted.mean()).square().sum()
        return float(((groups - 1) / groups * squares).sqrt())

    @property
    def is_noise(self) -> bool:
        """Whether the number is not significantly positive: 0 lies inside or above its 95 % interval."""
        return self.value <= BOUND * (self.error or 0.0)


def combined(f: Callable[..., Any], *estimates: Estimate) -> Estimate:
    """Return f of several estimates, with an error that accounts for the images that they share.

    Arguments:
        f: arithmetic that works on floats and tensors.
        estimates: estimates with the same groups.

    Example:
        >>> a, b = (Estimate(x, torch.tensor([x - 1, x + 1])) for x in (5.0, 2.0))
        >>> combined(lambda x, y: x - y, a, b).error
        0.0
    """
    return Estimate(f(*(e.value for e in estimates)), f(*(e.deleted for e in estimates)))


def group_count(*sizes: int) -> int:
    """Return G for sets of these sizes; 0 if they are too small for an error."""
    return min(GROUPS, *sizes) if min(sizes) >= _FEWEST else 0


def groups_of(n: int, groups: int) -> Tensor:
    """Return the random group of each of n images, `(n,)`; the same at each call. Sizes differ by at most one."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(_SEED)) % groups
