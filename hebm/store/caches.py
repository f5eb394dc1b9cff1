"""List and remove entries of a cache folder, such as draws and weights of extractors, which runs share.

A cache folder has a folder for each kind, in which each entry is a folder or a file. Every entry can be computed again,
and runs compute missing entries.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import attrs

from hebm.errors import CheckpointError
from hebm.store.durable import reporting
from hebm.store.in_use import is_in_use


@attrs.frozen
class Entry:
    """One entry of a cache folder.

    Arguments:
        kind: the name of its parent folder, such as "draws".
        path: the path of the folder or file.
        size: bytes on disk.
        reserved: bytes on disk when sparse files are full.
        changed: time of the last change, in seconds since 1970.
    """

    kind: str
    path: Path
    size: int
    reserved: int
    changed: float

    @property
    def in_use(self) -> bool:
        """Whether a process uses the entry or is writing to it. Raises `CheckpointError` if it cannot be read."""
        with reporting(f"open {self.path}"):
            return is_in_use(self.path)

    def remove(self) -> None:
        """Delete the entry. Raises `CheckpointError` if it is in use, or if it cannot be deleted."""
        if self.in_use:
            raise CheckpointError(f"{self.path} is in use by a run; remove it when that has ended")
        with reporting(f"remove {self.path}"), suppress(FileNotFoundError):  # another process may delete it, too
            if self.path.is_dir():
                shutil.rmtree(self.path)
            else:
                self.path.unlink()


def entries(cache: Path) -> list[Entry]:
    """Return the entries of a cache folder, ordered by last change; an empty list if the folder is missing.

    Raises `CheckpointError` if it cannot be read.
    """
    with reporting(f"read {cache}"):
        kinds = sorted(path for path in cache.iterdir() if path.is_dir()) if cache.is_dir() else []
    found = [entry for kind in kinds for entry in entries_of(kind)]
    return sorted(found, key=lambda entry: (entry.changed, entry.path))


def entries_of(kind: Path) -> list[Entry]:
    """Return the entries of the folder of a kind, ordered by last change; an empty list if the folder is missing.

    Raises `CheckpointError` if it cannot be read.
    """
    with reporting(f"read {kind}"):
        found = [_entry(kind.name, path) for path in kind.iterdir()] if kind.is_dir() else []
    return sorted(found, key=lambda entry: (entry.changed, entry.path))


def _entry(kind: str, path: Path) -> Entry:
    files = [*_files(path)]
    changed = max((file.st_mtime for file in files), default=path.stat().st_mtime)
    return Entry(kind, path, sum(map(_taken, files)), sum(file.st_size for file in files), changed)


def _files(path: Path) -> Iterator[os.stat_result]:
    """Yield the properties of each file at or below a path."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        with suppress(FileNotFoundError):  # a process has just deleted it
            about = file.stat()
            if stat.S_ISREG(about.st_mode):
                yield about


def _taken(file: os.stat_result) -> int:
    """Return the bytes that a file takes on disk, which are fewer than its size for a sparse file."""
    blocks: int | None = getattr(file, "st_blocks", None)
    return file.st_size if blocks is None else min(file.st_size, 512 * blocks)
