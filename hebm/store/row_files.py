"""Store rows of tensors in memory-mapped files.

    <folder>/  about.json   what the rows depend on
               <name>.bin   the rows of one tensor
               blocks       the first 128 bits of the SHA-256 of each block that is kept
               lock         held by the process that computes a block
               used-by-…    one for each process that uses the rows, which holds it

A block is valid only if its hash matches its bytes, which every process checks when it first uses the block. So a block
that a killed process left unfinished, or that was damaged later, is computed again. The folder can be deleted while no
process uses it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from hebm.store.durable import replace_file, reporting
from hebm.store.in_use import WRITING, InUse
from hebm.store.lock import waiting_lock
from hebm.store.rows import Column, Place, Table

_SUM = 16
_FORMAT = 2
ABOUT, _BLOCKS = "about.json", "blocks"


class InFiles(Place):
    """The files of one table, and a mark that this process uses them. Raises `OSError` if they cannot be created.

    Rows are written through files, which report a full disk; writing to the mapping would kill the process.
    """

    def __init__(self, folder: Path, about: bytes, table: Table) -> None:
        self.folder, self.table = folder, table
        folder.mkdir(exist_ok=True)
        self._in_use = InUse(folder)
        with waiting_lock(folder / WRITING):
            self._create(about)
        os.utime(folder / ABOUT)  # the time of the last use
        self._map()

    def _map(self) -> None:
        self.tensors = {name: self._mapped(name, column) for name, column in self.table.columns.items()}
        self._contents = {name: _bytes(tensor) for name, tensor in sorted(self.tensors.items())}

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the mapped files, for workers that are not forked."""
        return {"folder": self.folder, "table": self.table}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Restore the state, and map the files into memory again."""
        self.folder, self.table = state["folder"], state["table"]
        self._map()

    def _create(self, about: bytes) -> None:
        """Create files of the right sizes. New parts are zeros, so that their blocks are not valid."""
        for name, column in self.table.columns.items():
            _sized(self._path(name), self.table.rows * column.bytes)
        _sized(self.folder / _BLOCKS, self.table.blocks * _SUM)
        path = self.folder / ABOUT
        if not path.exists() or path.read_bytes() != about:
            replace_file(path, about)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.bin"

    def _mapped(self, name: str, column: Column) -> Tensor:
        size = self.table.rows * math.prod(column.shape)
        mapped = torch.from_file(str(self._path(name)), shared=True, size=size, dtype=column.dtype)
        return mapped.view(self.table.rows, *column.shape)

    @override
    def holds(self, block: int) -> bool:
        kept = self.kept_sum(block)
        return kept is not None and kept == self.sum_of(block)

    def kept_sum(self, block: int) -> bytes | None:
        """Return the stored hash of a block; None if the block is not stored."""
        with reporting(f"read {self.folder}"), open(self.folder / _BLOCKS, "rb") as file:
            file.seek(block * _SUM)
            return _none_for_zeros(file.read(_SUM))

    def kept_sums(self) -> list[bytes | None]:
        """Return the stored hash of every block."""
        with reporting(f"read {self.folder}"):
            whole = (self.folder / _BLOCKS).read_bytes()
        return [_none_for_zeros(whole[_SUM * i : _SUM * (i + 1)]) for i in range(self.table.blocks)]

    def sum_of(self, block: int) -> bytes:
        """Compute the hash of the stored bytes of a block."""
        first, count = self.table.span(block)
        columns = self.table.columns
        return _sum(
            whole[first * columns[name].bytes : (first + count) * columns[name].bytes]
            for name, whole in self._contents.items()
        )

    def write(self, block: int, rows: Mapping[str, Tensor]) -> None:
        """Write the rows of a block, then its hash."""
        first, _ = self.table.span(block)
        plain = {name: _bytes(rows[name].cpu()) for name in self._contents}
        with reporting(f"write {self.folder}"):
            for name, content in plain.items():
                _write_at(self._path(name), first * self.table.columns[name].bytes, content)
            _write_at(self.folder / _BLOCKS, block * _SUM, _sum(plain.values()))

    def writing(self) -> AbstractContextManager[None]:
        """Hold the lock; wait while another process computes a block."""
        return waiting_lock(self.folder / WRITING)


def about(identity: Mapping[str, Any], table: Table) -> bytes:
    """Return the content of about.json, which determines the folder's name."""
    columns = {name: [list(column.shape), str(column.dtype)] for name, column in table.columns.items()}
    whole = {"format": _FORMAT, "rows": table.rows, "block": table.block, "columns": columns, "identity": identity}
    return json.dumps(whole, indent=1, sort_keys=True).encode()


def _none_for_zeros(kept: bytes) -> bytes | None:
    return None if kept == bytes(_SUM) else kept


def _sum(contents: Iterable[memoryview]) -> bytes:
    """Return the hash of a block from the bytes of its columns, in the order of their names."""
    whole = hashlib.sha256()
    for content in contents:
        whole.update(content)
    return whole.digest()[:_SUM]


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def _write_at(path: Path, offset: int, data: bytes | memoryview) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def _sized(path: Path, size: int) -> None:
    """Create a file of this size, or cut or extend it to this size."""
    with open(path, "ab") as file:
        if file.tell() != size:
            file.truncate(size)
