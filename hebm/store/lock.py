"""Locks on files that the kernel releases when their holder dies: one process per run folder, one writer per file.

The content of a run's lock (pid, host, time) only serves the message; what counts is the lock on the open file, so the
file of a dead process is simply taken over.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from hebm.errors import CheckpointError
from hebm.store.durable import reporting

NAME = "run.lock"

if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int) -> None:
        """Lock one byte far behind the content, which others must be able to read."""
        os.lseek(handle, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error
        finally:
            os.lseek(handle, 0, os.SEEK_SET)

    def _wait_for_lock(handle: int) -> None:
        """Try until it works: the C library itself gives up after ten seconds."""
        while True:
            try:
                return _try_lock(handle)
            except BlockingIOError:
                time.sleep(0.05)
else:
    import fcntl

    def _try_lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _wait_for_lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX)


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold the lock on a file, created if it is missing; wait while another process holds it. Raises `OSError`."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _wait_for_lock(handle)
        yield
    finally:
        os.close(handle)


def free(path: Path) -> bool:
    """Return whether no process holds the lock on an existing file. Raises `OSError`."""
    handle = os.open(path, os.O_RDWR)
    try:
        _try_lock(handle)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True


class RunLock:
    """Hold a run folder: `with RunLock(folder): …`.

    Arguments:
        folder: an existing run folder.

    Raises `CheckpointError` on entering, naming the holder, if another process (or this one) has it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handle: int | None = None

    def __enter__(self) -> Self:
        with reporting(f"lock {self.folder}"):
            handle = os.open(self.folder / NAME, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                self._take(handle)
            except (OSError, CheckpointError):
                os.close(handle)
                raise
        self._handle = handle
        if hasattr(os, "register_at_fork"):
            # A forked data-loading worker inherits the lock and would keep it after this process was killed.
            os.register_at_fork(after_in_child=self._close)
        return self

    def _take(self, handle: int) -> None:
        try:
            _try_lock(handle)
        except BlockingIOError:
            raise CheckpointError(f"{self.folder} is in use by another run: {_holder(handle)}") from None
        since = datetime.now(UTC).isoformat(timespec="seconds")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(holder).encode())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        """Release the lock and keep the file: without it two processes could lock two files of one name."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def _holder(handle: int) -> str:
    try:
        holder = json.loads(os.read(handle, 4096))
        who = f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has just started and not yet written who it is
        who = "a process that has just started"
    return f"{who}. Wait for it, stop it, or give this run another name"
