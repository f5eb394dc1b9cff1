"""The journal of an unfinished output: a file next to it that says what it is and how much of it is written.

    {"number": 1000, "seed": 0, …}    the settings that decide its content
    [512, 0]                          rows that are written, and where the writer stands
    [1000, 0]

Lines are only appended, after what they tell of is written. A kill at any moment leaves at most one line that does not
end, which is ignored. The process that writes the output holds a lock on its journal.
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
    """How far an output is.

    Arguments:
        rows: that are written.
        mark: where the writer stands, such as the bytes of a table so far.
    """

    rows: int = 0
    mark: int = 0


class Journal:
    """Opens the journal of an output, and holds its lock until `close`.

    Arguments:
        path: of the journal; it is created if it is missing.
        force: forget what a damaged journal says, instead of refusing it.

    Attributes:
        settings: of the output that was started; None if none was.
        place: how far it is.

    Raises `CheckpointError` if another process writes this output, or the journal cannot be used or is damaged.
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
        """Forget what was written, and start an output with these settings, which JSON gives back unchanged."""
        self.settings, self.place = settings, Place()
        self._append(json.dumps(settings, ensure_ascii=False))

    def forget(self) -> None:
        """Empty the journal: from now on there is no unfinished output. Raises `CheckpointError`."""
        self.settings, self.place = None, Place()
        with reporting(f"write {self.path}"):
            os.ftruncate(self._handle, 0)

    def reached(self, place: Place) -> None:
        """Note how far the output is. Raises `CheckpointError`."""
        self.place = place
        self._append(json.dumps(place))

    def close(self) -> None:
        """Release the lock; remove the journal if it tells of no unfinished output. A second call does nothing."""
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
        """Remove the journal of an output that is whole, and release the lock. Raises `CheckpointError`."""
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
