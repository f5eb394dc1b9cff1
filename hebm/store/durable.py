"""Write files that survive a crash: written as a whole, fsynced, and renamed into place.

Readers see either the old or the new file, never a part of one, also after a power cut.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from typing_extensions import Buffer

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
    """Turn an `OSError` in the context into a `CheckpointError`: "cannot <action>: <cause>; <what to do>"."""
    try:
        yield
    except OSError as error:
        inside = error.filename is not None and str(error.filename) not in action
        where = f" ({error.filename})" if inside else ""
        raise CheckpointError(f"cannot {action}{where}: {_cause(error)}") from error


def denied(error: OSError) -> str:
    """Return the message for a file or folder that cannot be accessed: its path, the cause, and what to do."""
    paths = " and ".join(str(path) for path in (error.filename, error.filename2) if path is not None)
    return f"cannot use {paths}: {_cause(error)}"


def _cause(error: OSError) -> str:
    advice = _ADVICE.get(error.errno or 0, "fix the problem above and rerun")
    return f"{error.strerror or error}; {advice}"


class UnreadableError(CheckpointError):
    """A file that exists and may be intact, but cannot be read."""


_NOT_A_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ELOOP)
"""Errors for a missing file, or for something else in its place."""


def not_read(error: OSError, path: Path) -> CheckpointError:
    """Return the error for a file that could not be read; an `UnreadableError` if it may be intact."""
    kind = CheckpointError if error.errno in _NOT_A_FILE else UnreadableError
    return kind(f"{path.name} cannot be read ({error.strerror or error})")


def read_file(path: Path) -> bytes:
    """Read a regular file. Raises `OSError`, also for a pipe or a device, since reading one might never end."""
    with open_file(path) as file:
        return file.read()


def open_file(path: Path) -> BinaryIO:
    """Open a regular file. Raises `OSError`, also for a pipe or a device, without waiting for it."""
    file = open(path, "rb", opener=_without_waiting)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def listed(folder: Path) -> list[Path]:
    """Return the sorted entries of a folder; [] if it does not exist. Raises `OSError` if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def write_file(path: Path, data: bytes, sync: bool = True) -> None:
    """Write a new file; see `write_parts`."""
    write_parts(path, (data,), sync)


def write_parts(path: Path, parts: Iterable[Buffer], sync: bool = True) -> None:
    """Write a new file part by part. Raises `OSError`.

    Arguments:
        path: of the file.
        parts: its content in order. Each part is taken when the ones before it are written.
        sync: wait until it is on the disk.
    """
    with open(path, "xb") as file:
        hold(file.fileno())
        for part in parts:
            file.write(part)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Wait until a folder's entries (new names, renames) are on the disk. Raises `OSError`."""
    if os.name == "nt":  # Windows cannot open folders, but journals renames
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # the file system has no fsync for folders
            raise
    finally:
        os.close(handle)


def replace_file(path: Path, data: bytes, sync: bool = True) -> None:
    """Write or replace a file in one step; see `replace_parts`."""
    replace_parts(path, (data,), sync)


def replace_parts(path: Path, parts: Iterable[Buffer], sync: bool = True) -> None:
    """Write or replace a file in one step, part by part; remove unfinished files of killed processes.

    Arguments:
        path: of the file.
        parts: its content in order.
        sync: wait until it is on the disk.

    Raises `OSError`; the old file is then unchanged.
    """
    temporary = temporary_for(path)
    try:
        write_parts(temporary, parts, sync)
        os.replace(temporary, path)
    except Exception:
        discard(temporary)
        raise
    if sync:
        sync_folder(path.parent)


def temporary_for(path: Path) -> Path:
    """Return a temporary path in the same folder, to which a file or folder is written first.

    This removes unfinished files of killed processes. Raises `OSError`.
    """
    attempt = re.compile(re.escape(f"{TEMPORARY}{path.name}-") + r"\d+")
    own = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    for name in os.listdir(path.parent):
        if attempt.fullmatch(name) and (name == own.name or _abandoned(path.with_name(name))):
            remove(path.with_name(name))
    return own


def hold(handle: int) -> None:
    """Lock an open temporary file while writing it, so that no other process considers it abandoned."""
    with suppress(OSError):  # without locks, unfinished files of killed processes stay
        try_lock(handle)


def _abandoned(path: Path) -> bool:
    """Return whether a temporary file or folder is abandoned, that is, no process holds its lock."""
    locks = [*path.glob("*.lock")] if path.is_dir() else [path]
    try:
        return all(free(lock) for lock in locks)
    except FileNotFoundError:  # it was just renamed into place
        return False
    except OSError:  # it belongs to another user
        return False


def discard(path: Path) -> None:
    """Remove a file or folder as far as possible, after another failure."""
    try:
        remove(path)
    except OSError:  # the first failure is reported; the next save removes the rest
        return


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder. Raises `OSError`."""
    if path.is_dir() and not path.is_symlink():
        with suppress(FileNotFoundError):  # another process also removes it
            shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove unfinished files of killed processes in a folder. The caller must hold the lock. Raises `OSError`.

    Files that a process is writing stay, since processes without the lock may write a run's page or step sizes.
    """
    for path in listed(folder):
        if path.name.startswith(TEMPORARY) and (path.is_dir() or not path.is_file() or _abandoned(path)):
            remove(path)
