"""Mark folders that processes use, so that no other process deletes them."""

from __future__ import annotations

import os
import tempfile
import weakref
from pathlib import Path

from hebm.store.file_locks import free, wait_for_lock

WRITING = "lock"
"""The name of the file that a process holds while it writes to a folder."""
_PREFIX = "used-by-"


class InUse:
    """Mark a folder as used for as long as this object lives, by a locked file in it.

    The kernel releases the lock if the process dies. Create this object only while holding a lock that every process
    holds for this, and for deleting such folders: it removes the files of dead processes.

    Arguments:
        folder: an existing folder.

    Raises `OSError` if the file cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        for path in _marks(folder):
            if not _is_held(path):
                path.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=folder)
        wait_for_lock(handle)  # another process may just be trying it
        weakref.finalize(self, _end, handle, Path(name), os.getpid())


def is_in_use(folder: Path) -> bool:
    """Return whether a process uses a folder or writes to it. Raises `OSError` if that cannot be found out."""
    return any(_is_held(path) for path in (*_marks(folder), *folder.glob(WRITING)))


def _marks(folder: Path) -> list[Path]:
    return list(folder.glob(f"{_PREFIX}*"))


def _end(handle: int, path: Path, pid: int) -> None:
    """Release the lock, and delete the file unless this is a forked process."""
    os.close(handle)
    if os.getpid() == pid:
        path.unlink(missing_ok=True)


def _is_held(path: Path) -> bool:
    try:
        return not free(path)
    except FileNotFoundError:  # its process has just ended
        return False
    except PermissionError:  # it belongs to another user
        return True
