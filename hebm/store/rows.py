"""Rows of tensors that are computed in blocks when first needed, and then stored."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TypeAlias

import attrs
import torch
from torch import Tensor
from typing_extensions import override

from hebm.noise import BLOCK

Make: TypeAlias = Callable[[int, int], Mapping[str, Tensor]]
"""Computes rows by name from the index of the first row and the number of rows, and nothing else."""


@attrs.frozen
class Column:
    """The shape and type of one named tensor of a row."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def bytes(self) -> int:
        """The size of one row, in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@attrs.frozen
class Table:
    """The layout of a table: N rows of named tensors, in blocks.

    Arguments:
        columns: the columns by name, which is also the file name.
        rows: N.
        block: number of rows that are computed together.
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
        """The size of all rows, in bytes."""
        return self.rows * sum(column.bytes for column in self.columns.values())

    def span(self, block: int) -> tuple[int, int]:
        """Return the first row of a block and its number of rows."""
        first = block * self.block
        return first, min(self.block, self.rows - first)


class Place(ABC):
    """The storage of the rows of a table.

    Attributes:
        tensors: the rows by name, `(N, …)`. Rows of blocks that are not stored must not be read.
    """

    tensors: Mapping[str, Tensor]

    @abstractmethod
    def holds(self, block: int) -> bool:
        """Return whether a block is stored and intact."""

    @abstractmethod
    def write(self, block: int, rows: Mapping[str, Tensor]) -> None:
        """Store the rows of a block."""

    def writing(self) -> AbstractContextManager[None]:
        """Prevent other processes from computing blocks of this table inside the context."""
        return nullcontext()


class KeptRows:
    """The rows of a table, which are computed when first needed.

    Arguments:
        table: number of rows and columns.
        place: the storage of the rows.
        make: computes rows.
    """

    def __init__(self, table: Table, place: Place, make: Make) -> None:
        self.table, self.make, self._place = table, make, place
        self._ready: set[int] = set()

    def take(self, index: Tensor) -> dict[str, Tensor]:
        """Return the rows with indices `index` `(n,)` by name, `(n, …)`, on the CPU."""
        for block in torch.unique(index.cpu() // self.table.block).tolist():
            if block not in self._ready:
                self._require(block)
        return {name: rows.index_select(0, index.cpu()) for name, rows in self._place.tensors.items()}

    def _require(self, block: int) -> None:
        if not self._place.holds(block):
            with self._place.writing():
                if not self._place.holds(block):  # another process may have computed it in the meantime
                    self._place.write(block, self.make(*self.table.span(block)))
        self._ready.add(block)


class InMemory(Place):
    """Storage of rows in memory, which is lost when the process ends."""

    def __init__(self, table: Table) -> None:
        self.table, self._held = table, set[int]()
        self.tensors = {
            name: torch.empty(table.rows, *column.shape, dtype=column.dtype) for name, column in table.columns.items()
        }

    def holds(self, block: int) -> bool:
        """Return whether the block was written."""
        return block in self._held

    @override
    def write(self, block: int, rows: Mapping[str, Tensor]) -> None:
        first, count = self.table.span(block)
        for name, tensor in self.tensors.items():
            tensor[first : first + count] = rows[name]
        self._held.add(block)
