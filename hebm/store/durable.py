"""Files that survive a crash: written whole, fsynced, renamed into place.

A reader sees the old file or the new one, never a part of one; after a power cut the same holds.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from hebm.errors import CheckpointError
from hebm.store.file_locks import free, try_lock

TEMPORARY = ".tmp-"
"""Prefix of unfinished files and folders. The process that writes such a file holds its lock."""

_ADVICE = {
    errno.ENOSPC: "free space on this disk and run again",
    errno.EDQUOT: "free space within your quota and run again",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) and run again",
    errno.EACCES: "change its permissions or choose another place",
    errno.EPERM: "change its permissions or choose another place",
    errno.EROFS: "this file system is read-only: choose another folder",
    errno.ENOTDIR: "a part of this path is a file: choose another folder",
    errno.EEXIST: "something else bears this name: remove it or choose another folder",
}


@contextmanager
def reporting(action: str) -> Iterator[None]:
    """Turn an `OSError` inside into a `CheckpointError`: "cannot <action>: <cause>; <what to do>"."""
    try:
        yield
    except OSError as error:
        inside = error.filename is not None and str(error.filename) not in action
        where = f" ({error.filename})" if inside else ""
        raise CheckpointError(f"cannot {action}{where}: {_cause(error)}") from error


def denied(error: OSError) -> str:
    """Return the message for a file or folder that the operating system does not give: its path, why, what to do."""
    paths = " and ".join(str(path) for path in (error.filename, error.filename2) if path is not None)
    return f"cannot use {paths}: {_cause(error)}"


def _cause(error: OSError) -> str:
    advice = _ADVICE.get(error.errno or 0, "fix the problem above and rerun")
    return f"{error.strerror or error}; {advice}"


class UnreadableError(CheckpointError):
    """A file that is there and may be whole, but that the operating system does not give."""


_NOT_A_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP)
"""Errors of a file that is missing, or of something else in its place."""


def not_read(error: OSError, path: Path) -> CheckpointError:
    """Return the error of a file that could not be read; an `UnreadableError` if it may be whole nevertheless."""
    kind = CheckpointError if error.errno in _NOT_A_FILE else UnreadableError
    return kind(f"{path.name} cannot be read ({error.strerror or error})")


def read_file(path: Path) -> bytes:
    """Read a regular file. Raises `OSError`, for a pipe or a device too: reading one might never end."""
    with open_file(path) as file:
        return file.read()


def open_file(path: Path) -> BinaryIO:
    """Open a regular file. Raises `OSError`, for a pipe or a device too, and does not wait for one."""
    file = open(path, "rb", opener=_without_waiting)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def listed(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted; nothing if it does not exist. Raises `OSError` if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def write_file(path: Path, data: bytes, sync: bool = True) -> None:
    """Write a new file. Raises `OSError`.

    Arguments:
        path: of the file.
        data: its content.
        sync: wait until it is on the disk.
    """
    with open(path, "xb") as file:
        hold(file.fileno())
        file.write(data)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until a folder's entries (new names, renames) are on the disk. Raises `OSError`."""
    if os.name == "nt":  # folders cannot be opened there; renames are journalled
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that has no fsync for folders
            raise
    finally:
        os.close(handle)


def replace_file(path: Path, data: bytes, sync: bool = True) -> None:
    """Write a file or replace it in one step; remove what killed processes left of earlier attempts.

    Arguments:
        path: of the file.
        data: its content.
        sync: wait until it is on the disk.

    Raises `OSError`, the old file then being whole.
    """
    temporary = temporary_for(path)
    try:
        write_file(temporary, data, sync=sync)
        os.replace(temporary, path)
    except OSError:
        discard(temporary)
        raise
    if sync:
        sync_folder(path.parent)


def temporary_for(path: Path) -> Path:
    """Return the path that a file or folder is written to first, in the same folder.

    What killed processes left of earlier attempts is removed. Raises `OSError`.
    """
    attempt = re.compile(re.escape(f"{TEMPORARY}{path.name}-") + r"\d+")
    own = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    for name in os.listdir(path.parent):
        if attempt.fullmatch(name) and (name == own.name or _abandoned(path.with_name(name))):
            remove(path.with_name(name))
    return own


def hold(handle: int) -> None:
    """Lock an open temporary file while it is written, so that no other process takes it for abandoned."""
    with suppress(OSError):  # a file system without locks: what a kill leaves there stays
        try_lock(handle)


def _abandoned(path: Path) -> bool:
    """Return whether nobody writes a temporary file or folder any more: nobody holds its lock, if it has one."""
    locks = [*path.glob("*.lock")] if path.is_dir() else [path]
    try:
        return all(free(lock) for lock in locks)
    except FileNotFoundError:  # it has just been renamed into place
        return False
    except OSError:  # it belongs to someone else
        return False


def discard(path: Path) -> None:
    """Remove a file or folder as far as possible, after a failure that is being reported."""
    try:
        remove(path)
    except OSError:  # the failure under report has the same cause; the next save removes what is left
        return


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder. Raises `OSError`."""
    if path.is_dir() and not path.is_symlink():
        with suppress(FileNotFoundError):  # another process removes it too
            shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder. Raises `OSError`. Only for who holds the lock.

    A file stays if a process is writing it: readers hold no lock, and write a run's page or its step sizes.
    """
    for path in listed(folder):
        if path.name.startswith(TEMPORARY) and (path.is_dir() or not path.is_file() or _abandoned(path)):
            remove(path)
