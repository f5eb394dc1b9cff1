"""The journal of an unfinished output: a file next to it with the settings and the progress of writing.

    {"number": 1000, "seed": 0, …}    the settings that the content depends on
    [512, 0]                          number of written rows, and the writer's position
    [1000, 0]

Lines are only appended, after the rows that they describe are written. A kill at any moment leaves at most one
incomplete line, which is ignored. The process that writes the output holds a lock on the journal.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hebm.errors import CheckpointError
from hebm.store.durable import reporting
from hebm.store.file_locks import try_lock
from hebm.store.json_shapes import damaged, parsed, shaped

SUFFIX = ".partial.jsonl"


class Place(NamedTuple):
    """The progress of an output.

    Arguments:
        rows: number of written rows.
        mark: the writer's position, such as the number of bytes of a table.
    """

    rows: int = 0
    mark: int = 0


class Journal:
    """Opens the journal of an output, and holds its lock until `close`.

    Arguments:
        path: path of the journal, which is created if it is missing.
        force: discard a damaged journal instead of raising an error.

    Attributes:
        settings: settings of the unfinished output; None if no output was started.
        place: its progress.

    Raises `CheckpointError` if another process writes this output, or if the journal is damaged or not accessible.
    """

    def __init__(self, path: Path, force: bool = False) -> None:
        self.path = path
        self.settings: Mapping[str, Any] | None = None
        self.place = Place()
        with reporting(f"write {path}"):
            self._handle = _locked(path)
        try:
            self._read()
        except CheckpointError:
            if not force:
                os.close(self._handle)
                raise
            self.forget()

    def start(self, settings: Mapping[str, Any]) -> None:
        """Discard earlier progress, and start an output with these settings, which must survive JSON unchanged."""
        self.settings, self.place = settings, Place()
        self._append(json.dumps(settings, ensure_ascii=False))

    def forget(self) -> None:
        """Empty the journal, which marks the output as not started. Raises `CheckpointError` if this fails."""
        self.settings, self.place = None, Place()
        with reporting(f"write {self.path}"):
            os.ftruncate(self._handle, 0)

    def reached(self, place: Place) -> None:
        """Record the progress of the output. Raises `CheckpointError` if it cannot be written."""
        self.place = place
        self._append(json.dumps(place))

    def close(self) -> None:
        """Release the lock, and remove an empty journal. A second call does nothing."""
        if self._handle < 0:
            return
        unused = self.settings is None
        if unused and os.name != "nt":  # before the lock is released, so that nobody else's is removed
            self.path.unlink(missing_ok=True)
        os.close(self._handle)
        self._handle = -1
        if unused and os.name == "nt":  # there, an open file cannot be removed
            self.path.unlink(missing_ok=True)

    def end(self) -> None:
        """Remove the journal of a finished output, and release the lock. Raises `CheckpointError` if this fails."""
        self.settings = None
        with reporting(f"remove {self.path}"):
            self.close()

    def _append(self, line: str) -> None:
        with reporting(f"write {self.path}"):
            os.lseek(self._handle, 0, os.SEEK_END)
            data = line.encode() + b"\n"
            if os.write(self._handle, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _read(self) -> None:
        with reporting(f"read {self.path}"):
            os.lseek(self._handle, 0, os.SEEK_SET)
            with os.fdopen(os.dup(self._handle), "rb") as file:
                *lines, _torn = file.read().split(b"\n")
            os.ftruncate(self._handle, sum(len(line) + 1 for line in lines))
        fix = "use --force to start again, or remove it"
        with damaged(self.path, fix):
            for i, line in enumerate(lines):
                if i == 0:
                    self.settings = shaped(dict[str, Any], parsed(line))
                else:
                    self.place = Place(*shaped(tuple[int, int], parsed(line), f"line {i + 1}"))


def _locked(path: Path) -> int:
    """Open and lock a file. Raises `CheckpointError` if another process holds its lock, `OSError` otherwise."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        try:
            try_lock(handle)
        except BlockingIOError:
            os.close(handle)
            output = path.name.removesuffix(SUFFIX)
            raise CheckpointError(
                f"{path.with_name(output)} is being written by another process; wait for it, stop it, or name another"
            ) from None
        if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
            return handle
        os.close(handle)  # its holder has just finished and removed it
