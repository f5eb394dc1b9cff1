"""Standard errors by the delete-a-group jackknife.

    se² = (G − 1)/G Σ_g (θ₍g₎ − θ̄)²,    θ₍g₎ an estimate without group g of the images, θ̄ the mean of these G estimates

Images are divided into G groups at random. Two sets of images are divided alike, so that an image and its
reconstruction, or two draws from the same noise, leave together: what sets share then counts once.

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
"""G, where there are as many images."""

BOUND = 1.96
"""Standard errors on each side of a 95 % interval."""

_SEED = 0
_FEWEST = 3


@attrs.frozen(eq=False)
class Estimate:
    """A number with what it would be without each group of images.

    Arguments:
        value: θ, from all images.
        deleted: θ₍g₎ without each group, float64 `(G,)`; empty where there are too few images.
    """

    value: float
    deleted: Tensor

    @property
    def error(self) -> float | None:
        """Return the standard error; None where there are too few images."""
        groups = len(self.deleted)
        if groups < 2:
            return None
        squares = (self.deleted - self.deleted.mean()).square().sum()
        return float(((groups - 1) / groups * squares).sqrt())

    @property
    def is_noise(self) -> bool:
        """Whether 0 lies in the 95 % interval, or above it: the number is not positive by more than its noise."""
        return self.value <= BOUND * (self.error or 0.0)


def combined(f: Callable[..., Any], *estimates: Estimate) -> Estimate:
    """Return f of several estimates; the error counts what they share.

    Arguments:
        f: arithmetic that takes floats and tensors alike.
        estimates: with the same groups.

    Example:
        >>> a, b = (Estimate(x, torch.tensor([x - 1, x + 1])) for x in (5.0, 2.0))
        >>> combined(lambda x, y: x - y, a, b).error
        0.0
    """
    return Estimate(f(*(e.value for e in estimates)), f(*(e.deleted for e in estimates)))


def group_count(*sizes: int) -> int:
    """Return G for sets of these sizes; 0 where they are too small for an error."""
    return min(GROUPS, *sizes) if min(sizes) >= _FEWEST else 0


def groups_of(n: int, groups: int) -> Tensor:
    """Return the group of each of n images, `(n,)`: random, of equal size but for one, the same at each call."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(_SEED)) % groups
