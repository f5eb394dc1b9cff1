"""Locks on open files, which the kernel releases when their holder dies, for every operating system."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any


def _flock() -> Callable[[int], None]:
    """Return the lock function of POSIX systems."""
    import fcntl

    return lambda handle: fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _windows() -> Callable[[int], None]:
    """Return the lock function of Windows. It locks one byte far behind the content, so that others can read that."""
    msvcrt: Any = importlib.import_module("msvcrt")

    def lock(handle: int) -> None:
        os.lseek(handle, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error
        finally:
            os.lseek(handle, 0, os.SEEK_SET)

    return lock


def _lockf() -> Callable[[int], None]:
    """Return the lock function for Python without `fcntl`. It does not exclude other threads of this process."""

    def lock(handle: int) -> None:
        try:
            os.lockf(handle, os.F_TLOCK, 0)
        except PermissionError as error:  # raised by some systems
            raise BlockingIOError from error

    return lock


def _lock_of_this_system() -> Callable[[int], None]:
    if find_spec("fcntl") is not None:
        return _flock()
    return _windows() if find_spec("msvcrt") is not None else _lockf()


_lock = _lock_of_this_system()


def try_lock(handle: int) -> None:
    """Lock an open file. Raises `BlockingIOError` if another process holds the lock."""
    _lock(handle)


def wait_for_lock(handle: int, busy: Callable[[], None] | None = None) -> None:
    """Lock an open file; wait while another process holds the lock, after one call of `busy`."""
    while True:
        try:
            return try_lock(handle)
        except BlockingIOError:
            if busy is not None:
                busy()
            busy = None
            time.sleep(0.02)


def free(path: os.PathLike[str]) -> bool:
    """Return True if no process holds the lock on an existing file. Raises `OSError`."""
    handle = os.open(path, os.O_RDWR | getattr(os, "O_NONBLOCK", 0))
    try:
        try_lock(handle)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
