"""Unpack a compressed archive once into a temporary file, from which its files are read in any order."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterable

from hebm.errors import DataError


class Unpacked:
    """Files in one unnamed temporary file, which the system deletes when the last process that uses it ends.

    Arguments:
        files: names and bytes of the files.
        size: total size in bytes.
        what: name of the archive in messages.

    Raises `DataError` if the folder for temporary files has too little space.
    """

    def __init__(self, files: Iterable[tuple[str, bytes]], size: int, what: str) -> None:
        folder = tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        if size > free:
            raise DataError(
                f"{what}: unpacking it takes {size:,} bytes, but {folder} has {free:,}; free some, set TMPDIR to "
                "another folder, or unpack it and use the resulting folder"
            )
        self._file = tempfile.TemporaryFile()
        self._places: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()
        for name, data in files:
            self._places[name] = (self._file.tell(), len(data))
            self._file.write(data)
        self._file.flush()

    def read(self, name: str) -> bytes:
        """Return the bytes of a file. Forked processes may read at the same time."""
        offset, size = self._places[name]
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), size, offset)
        with self._lock:
            self._file.seek(offset)
            return self._file.read(size)
