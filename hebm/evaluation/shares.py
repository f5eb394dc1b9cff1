"""Divide images among processes by whole batches. Batches are the same for any number of processes."""

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
    """Assigns batches of images to processes, and joins their results.

    Arguments:
        world: the number of processes.
        rank: the number of this process.
        gather: joins the tensors of all processes, such as `accelerator.gather`.
    """

    world: int = 1
    rank: int = 0
    gather: Gather | None = None

    def batches(self, n: int, size: int) -> list[tuple[int, int]]:
        """Return (first row, rows) of each batch of this process. The batches are contiguous and in order."""
        starts = range(0, n, size)
        per = self._per_process(n, size)
        mine = starts[self.rank * per : (self.rank + 1) * per]
        return [(start, min(size, n - start)) for start in mine]

    def _per_process(self, n: int, size: int) -> int:
        return math.ceil(math.ceil(n / size) / self.world)

    def join(self, parts: Sequence[Tensor], empty: Tensor, n: int, size: int) -> Tensor:
        """Join every process's `parts` and return all n rows in order, on every process.

        Arguments:
            parts: the results of this process's batches, `(rows, *shape)`; may be empty.
            empty: a tensor `(0, *shape)` with the type and shape of the results, for processes without batches.
            n: number of rows of all processes.
            size: number of rows of a full batch.
        """
        if self.gather is None:
            return torch.cat(list(parts))
        whole = empty.new_zeros((self._per_process(n, size) * size, *empty.shape[1:]))
        for k, part in enumerate(parts):
            whole[k * size : k * size + len(part)] = part
        return self.gather(whole)[:n]

    def join_one_each(self, parts: Sequence[Tensor], empty: Tensor, size: int) -> Tensor:
        """Join one batch of every process in the order of ranks. Only the last batch may be incomplete.

        Arguments:
            parts: this process's batch in pieces, `(rows, *shape)`; empty if it has no batch left.
            empty: a tensor `(0, *shape)` with the type and shape of the results.
            size: number of rows of a full batch.
        """
        mine = torch.cat([empty, *parts])
        if self.gather is None:
            return mine
        padding = mine.new_zeros(size - len(mine), *mine.shape[1:])
        return self.gather(torch.cat([mine, padding]))

    def total(self, count: int, device: torch.device) -> int:
        """Return the sum of a count over all processes."""
        if self.gather is None:
            return count
        return int(self.gather(torch.tensor([count], device=device)).sum())

    def agreed(self, number: int, device: torch.device) -> int:
        """Return the first process's number on every process."""
        return int(self.from_first(torch.tensor([number], device=device)))

    def from_first(self, tensor: Tensor) -> Tensor:
        """Return the first process's tensor `(N,)` on every process."""
        return tensor if self.gather is None else self.gather(tensor)[: len(tensor)]
