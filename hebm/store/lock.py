"""Locks on files, for one process per run folder and one writer per file. The kernel releases them if a holder dies.

The content of a run's lock (pid, host, time) is only used in messages. The lock itself is on the open file, so another
process can take over the file of a dead one.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

from hebm.errors import CheckpointError
from hebm.store.durable import reporting
from hebm.store.file_locks import try_lock, wait_for_lock
from hebm.store.json_shapes import ShapeError, parsed, shaped

NAME = "run.lock"
_OWN_FILE = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""Flags for opening a lock, which is overwritten: do not follow links, and do not wait for pipes."""


@contextmanager
def waiting_lock(path: Path, busy: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock on a file, and wait while another process holds it, after one call of `busy`.

    Creates the file. Raises `OSError`.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        wait_for_lock(handle, busy)
        yield
    finally:
        os.close(handle)


@attrs.frozen
class _Holder:
    """The holder of a lock: process id, host name, and start time."""

    pid: int
    host: str
    since: str


class RunLock:
    """The lock of a run folder, for `with RunLock(folder): …`.

    Arguments:
        folder: an existing run folder.

    Raises `CheckpointError` on entering, with the holder, if another process or this one holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handle: int | None = None

    def __enter__(self) -> Self:
        with reporting(f"lock {self.folder}"):
            handle = os.open(self.folder / NAME, _OWN_FILE, 0o644)
            try:
                _require_file(handle, self.folder / NAME)
                self._take(handle)
            except (OSError, CheckpointError):
                os.close(handle)
                raise
        self._handle = handle
        if hasattr(os, "register_at_fork"):
            # A forked data-loading worker inherits the lock and would hold it after this process is killed.
            os.register_at_fork(after_in_child=self._close)
        return self

    def _take(self, handle: int) -> None:
        try:
            try_lock(handle)
        except BlockingIOError:
            raise CheckpointError(f"{self.folder} is in use by another run: {_holder(handle)}") from None
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder = _Holder(os.getpid(), socket.gethostname(), since)
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(attrs.asdict(holder)).encode())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        """Release the lock, but keep the file: otherwise two processes could lock two files of the same name."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def _require_file(handle: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def _holder(handle: int) -> str:
    try:
        holder = shaped(_Holder, parsed(os.read(handle, 4096)))
        who = f"process {holder.pid} on {holder.host}, since {holder.since}"
    except (OSError, ShapeError):  # it has just started and written nothing yet
        who = "a process that has just started"
    return f"{who}. Wait for it, stop it, or give this run another name"
