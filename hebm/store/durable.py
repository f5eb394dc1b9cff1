"""Files that survive a crash: written whole, fsynced, renamed into place.

A reader sees the old file or the new one, never a part of one; after a power cut the same holds.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hebm.errors import CheckpointError

TEMPORARY = ".tmp-"
"""Prefix of unfinished files and folders: the run that holds the lock may remove whatever bears it."""

_ADVICE = {
    errno.ENOSPC: "free space on this disk and run again",
    errno.EDQUOT: "free space within your quota and run again",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) and run again",
    errno.EACCES: "make the folder writable or choose another",
    errno.EPERM: "make the folder writable or choose another",
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
        cause = error.strerror or str(error)
        advice = _ADVICE.get(error.errno or 0, "fix the problem above and rerun")
        raise CheckpointError(f"cannot {action}: {cause}; {advice}") from error


def write_file(path: Path, data: bytes) -> None:
    """Write a new file and wait until it is on the disk. Raises `OSError`."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
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


def replace_file(path: Path, data: bytes) -> None:
    """Write a file or replace it in one step. Raises `OSError`, the old file then being whole."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        write_file(temporary, data)
        os.replace(temporary, path)
    except OSError:
        discard(temporary)
        raise
    sync_folder(path.parent)


def discard(path: Path) -> None:
    """Remove a file or folder as far as possible, after a failure that is being reported."""
    try:
        remove(path)
    except OSError:  # the failure under report has the same cause; the next save removes what is left
        return


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder. Raises `OSError`."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder. Raises `OSError`. Only for who holds the lock."""
    for path in folder.glob(f"{TEMPORARY}*"):
        remove(path)
