"""List and remove entries of a cache folder, such as draws and weights of extractors, which runs share.

A cache folder has a folder for each kind, in which each entry is a folder or a file. Every entry can be computed again,
and runs compute missing entries.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import attrs

from hebm.errors import CheckpointError
from hebm.store.durable import reporting
from hebm.store.file_locks import free


@attrs.frozen
class Entry:
    """One entry of a cache folder.

    Arguments:
        kind: the name of its parent folder, such as "draws".
        path: the path of the folder or file.
        size: bytes on disk.
        changed: time of the last change, in seconds since 1970.
    """

    kind: str
    path: Path
    size: int
    changed: float

    def remove(self) -> None:
        """Delete the entry. Raises `CheckpointError` if a process is writing to it, or if it cannot be deleted."""
        with reporting(f"open {self.path}"):
            written = not all(free(lock) for lock in self.path.glob("lock"))
        if written:
            raise CheckpointError(f"{self.path} is being written to by a run; remove it when that has ended")
        with reporting(f"remove {self.path}"):
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
        found = [_entry(kind.name, path) for kind in kinds for path in kind.iterdir()]
    return sorted(found, key=lambda entry: (entry.changed, entry.path))


def _entry(kind: str, path: Path) -> Entry:
    files = [file.stat() for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    size = sum(_taken(file) for file in files)
    return Entry(kind, path, size, max((file.st_mtime for file in files), default=path.stat().st_mtime))


def _taken(file: os.stat_result) -> int:
    """Return the bytes that a file takes on disk, which are fewer than its size for a sparse file."""
    blocks: int | None = getattr(file, "st_blocks", None)
    return file.st_size if blocks is None else min(file.st_size, 512 * blocks)
