"""How several processes divide images: by whole batches, so that a batch is the same for any number of processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs
import torch
from torch import Tensor

Gather = Callable[[Tensor], Tensor]
"""Concatenates a tensor of one shape over all processes, in the order of their ranks."""


@attrs.frozen
class Processes:
    """Who computes what.

    Arguments:
        world: the number of processes.
        rank: which one this is.
        gather: joins their tensors; `accelerator.gather` has this form.
    """

    world: int = 1
    rank: int = 0
    gather: Gather | None = None

    def batches(self, n: int, size: int) -> list[tuple[int, int]]:
        """(first row, rows) of each batch of this process; contiguous, in order."""
        starts = range(0, n, size)
        per = self._per_process(n, size)
        mine = starts[self.rank * per : (self.rank + 1) * per]
        return [(start, min(size, n - start)) for start in mine]

    def _per_process(self, n: int, size: int) -> int:
        return math.ceil(math.ceil(n / size) / self.world)

    def join(self, parts: Sequence[Tensor], empty: Tensor, n: int, size: int) -> Tensor:
        """All n rows in order, from every process's `parts`, on every process.

        Arguments:
            parts: the results of this process's batches, `(rows, *shape)`; may be none.
            empty: `(0, *shape)`, for the type and shape that a process without batches cannot know.
            n: how many rows there are in all.
            size: rows of a full batch.
        """
        if self.gather is None:
            return torch.cat(list(parts))
        whole = empty.new_zeros((self._per_process(n, size) * size, *empty.shape[1:]))
        for k, part in enumerate(parts):
            whole[k * size : k * size + len(part)] = part
        return self.gather(whole)[:n]

    def total(self, count: int, device: torch.device) -> int:
        """The sum of a count over all processes."""
        if self.gather is None:
            return count
        return int(self.gather(torch.tensor([count], device=device)).sum())

    def from_first(self, tensor: Tensor) -> Tensor:
        """The first process's tensor `(N,)`, on every process."""
        return tensor if self.gather is None else self.gather(tensor)[: len(tensor)]
