"""Read the encoded images in a column of a data set of the library `datasets`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from hebm.data.files import Files
from hebm.data.image_names import HEAD


class ImageRows(Files):
    """The images of a column as files, whose names are the row numbers, padded with zeros.

    Arguments:
        rows: a `datasets.Dataset`.
        column: a column of images, or of their encoded bytes.
        path: where the column is, for messages.
        key: name of the option that messages tell the user to change.
    """

    def __init__(self, rows: Any, column: str, path: Path, key: str) -> None:
        from datasets import Image

        self.column = column
        self.rows = rows.select_columns([column]).cast_column(column, Image(decode=False))
        super().__init__(path, key)

    @override
    def has(self, name: str) -> bool:
        return name in self.names

    @override
    def stamps(self, names: Sequence[str]) -> list[tuple[int, int, int]]:
        """Return, for every row, the total size and the latest times of the files that hold the rows."""
        about = [os.stat(cached["filename"]) for cached in self.rows.cache_files]
        size = sum(one.st_size for one in about)
        changed = max((one.st_mtime_ns for one in about), default=0), max((one.st_ctime_ns for one in about), default=0)
        return [(size, *changed)] * len(names)

    @override
    def _list(self) -> Iterator[str]:
        width = len(str(max(0, len(self.rows) - 1)))
        return (f"{i:0{width}d}" for i in range(len(self.rows)))

    @override
    def _is_image(self, name: str) -> bool:
        return True

    @override
    def _read(self, name: str) -> bytes:
        try:
            found = self.rows[int(name)][self.column] or {}
        except ValueError as error:  # pyarrow's error for damaged files
            raise OSError(str(error)) from error
        data: bytes | None = found.get("bytes")
        if data is None and found.get("path") is None:
            raise FileNotFoundError("this row has no image")
        data = Path(found["path"]).read_bytes() if data is None else data
        self.require_size(name, len(data))
        return data

    @override
    def _head(self, name: str) -> bytes:
        return self._read(name)[:HEAD]
