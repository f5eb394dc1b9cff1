"""Read image files that a user names: a single file, or paths on the standard input."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from typing_extensions import override

from hebm.config.paths import expanded
from hebm.data.archives import is_archive, open_files
from hebm.data.files import Files
from hebm.data.image_names import HEAD
from hebm.errors import DataError
from hebm.store.durable import read_file

STANDARD_INPUT = "-"


class ListedFiles(Files):
    """Files by path, in the given order. Each counts as an image, and a path may occur several times.

    Arguments:
        paths: paths of the files.
        path: name of the list in messages.
        key: name of the option that messages tell the user to change.
    """

    def __init__(self, paths: Sequence[str], path: Path, key: str) -> None:
        self._paths = list(paths)
        super().__init__(path, key)
        self.names = self._paths

    @override
    def describe(self, name: str) -> str:
        return name

    @override
    def has(self, name: str) -> bool:
        return os.path.isfile(name)

    @override
    def _holder(self, name: str) -> str:
        return name

    def _list(self) -> Iterator[str]:
        return iter(())

    def _read(self, name: str) -> bytes:
        found = os.stat(name)
        if not stat.S_ISREG(found.st_mode):
            raise IsADirectoryError("it is not a file")
        self.require_size(name, found.st_size)
        return read_file(Path(name))

    def _head(self, name: str) -> bytes:
        return self._read(name)[:HEAD]


def given_files(images: str, key: str, standard_input: IO[bytes]) -> Files:
    """Open the image files that a user names.

    Arguments:
        images: a folder, an archive, an image file, or "-" for paths on the standard input, one per line.
        key: name of the option, for messages.
        standard_input: the standard input.

    Raises `DataError` if nothing is found.
    """
    if images == STANDARD_INPUT:
        paths = [os.fsdecode(line.rstrip(b"\r\n")) for line in standard_input]
        paths = [path for path in paths if path.strip()]
        if not paths:
            raise DataError(f"{key}: the standard input has no paths; write one on each line")
        return ListedFiles(paths, Path("standard input"), key)
    path = Path(expanded(images))
    if path.is_file() and not is_archive(path):
        return ListedFiles([str(path)], path, key)
    return open_files(path, key)
