"""Rows of tensors that are computed once: a block at a time, when first asked for, and then kept."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import attrs
import torch
from torch import Tensor

from hebm.noise import BLOCK

Make: TypeAlias = Callable[[int, int], Mapping[str, Tensor]]
"""Computes rows by name, given the first row's number and how many: a function of these two numbers alone."""


@attrs.frozen
class Column:
    """One tensor of each row: its shape and its type."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """The size of one row."""
        return math.prod(self.shape) * self.dtype.itemsize


@attrs.frozen
class Table:
    """What is kept: N rows of named tensors, in blocks.

    Arguments:
        columns: by name; a name is a file's.
        rows: N.
        block: rows that are computed together.
    """

    columns: Mapping[str, Column]
    rows: int
    block: int = BLOCK

    @property
    def blocks(self) -> int:
        """The number of blocks; the last one may be shorter."""
        return -(-self.rows // self.block)

    @property
    def bytes(self) -> int:
        """The size of all rows."""
        return self.rows * sum(column.bytes for column in self.columns.values())

    def span(self, block: int) -> tuple[int, int]:
        """Return the first row of a block, and how many it has."""
        first = block * self.block
        return first, min(self.block, self.rows - first)


class Place(ABC):
    """Where the rows of a table are kept.

    Attributes:
        tensors: the rows by name, `(N, …)`; those of a block that is not kept are not to be read.
    """

    tensors: Mapping[str, Tensor]

    @abstractmethod
    def holds(self, block: int) -> bool:
        """Return whether a block is kept, undamaged."""

    @abstractmethod
    def write(self, block: int, rows: Mapping[str, Tensor]) -> None:
        """Keep the rows of a block."""

    def writing(self) -> AbstractContextManager[None]:
        """Inside, no other process computes a block of this table."""
        return nullcontext()


class KeptRows:
    """The rows of a table, computed when first asked for.

    Arguments:
        table: their number and columns.
        place: where they are kept.
        make: computes them.
    """

    def __init__(self, table: Table, place: Place, make: Make) -> None:
        self.table, self.make, self._place = table, make, place
        self._ready: set[int] = set()

    def take(self, index: Tensor) -> dict[str, Tensor]:
        """Return rows by name, `(n, …)`, on the CPU; `index` `(n,)` are their numbers."""
        for block in torch.unique(index.cpu() // self.table.block).tolist():
            if block not in self._ready:
                self._require(block)
        return {name: rows.index_select(0, index.cpu()) for name, rows in self._place.tensors.items()}

    def _require(self, block: int) -> None:
        if not self._place.holds(block):
            with self._place.writing():
                if not self._place.holds(block):  # no other process has made it in the meantime
                    self._place.write(block, self.make(*self.table.span(block)))
        self._ready.add(block)


class InMemory(Place):
    """Rows in memory, lost with the process."""

    def __init__(self, table: Table) -> None:
        self.table, self._held = table, set[int]()
        self.tensors = {
            name: torch.empty(table.rows, *column.shape, dtype=column.dtype) for name, column in table.columns.items()
        }

    def holds(self, block: int) -> bool:
        """Return whether the block was written."""
        return block in self._held

    def write(self, block: int, rows: Mapping[str, Tensor]) -> None:
        """Keep the rows of a block."""
        first, count = self.table.span(block)
        for name, tensor in self.tensors.items():
            tensor[first : first + count] = rows[name]
        self._held.add(block)
