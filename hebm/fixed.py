"""Fix coordinates of u, so that a prior draws only the others."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor


@attrs.frozen(eq=False)
class Fixed:
    """Fixed coordinates of u; a prior draws the free ones given them.

    Arguments:
        u: `(n, D)`; its free coordinates are ignored.
        mask: True where a coordinate is fixed, `(D,)`.
        free_index: positions of the free coordinates, `(D − fixed,)`. They are computed once, because every step of a
            chain uses them.
    """

    u: Tensor
    mask: Tensor
    free_index: Tensor = attrs.field(repr=False)

    @free_index.default
    def _find(self) -> Tensor:
        return (~self.mask).nonzero().squeeze(1)

    @property
    def everything(self) -> bool:
        """True if no coordinate is free."""
        return not len(self.free_index)

    def apply(self, u: Tensor) -> Tensor:
        """Return u `(n, D)` with the fixed coordinates at their given values."""
        return torch.where(self.mask, self.u, u)

    def free(self, u: Tensor) -> Tensor:
        """Return the free coordinates of u `(n, D)`, `(n, D − fixed)`."""
        return u.index_select(1, self.free_index)

    def filled(self, free: Tensor) -> Tensor:
        """Return the whole u `(n, D)` from its free coordinates; differentiable in them."""
        return self.u.index_copy(1, self.free_index, free)

    def moved(self, u: Tensor) -> Fixed:
        """Return the same coordinates fixed at their values in another u."""
        return attrs.evolve(self, u=u)

    def rows(self, few: slice) -> Fixed:
        """Return the samples in the slice `few`."""
        return self.moved(self.u[few])

    def repeated(self, times: int) -> Fixed:
        """Return each sample repeated `times` times in a row."""
        return self.moved(self.u.repeat_interleave(times, 0))
