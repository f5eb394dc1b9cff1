"""Write a table as CSV, batch by batch."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

from hebm.errors import DataError
from hebm.outputs.journal import Place
from hebm.outputs.resumable import Writer

TableRows: TypeAlias = Sequence[Sequence[Any]]


def csv_bytes(rows: TableRows) -> bytes:
    """Return rows as lines of a CSV in UTF-8; names of files that are not UTF-8 keep their bytes."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode(errors="surrogateescape")


class CsvFile(Writer[TableRows]):
    """Writes a CSV: rows go to a file next to it, which is renamed at the end.

    Arguments:
        target: the file.
        number: of rows in the end.

    Attributes:
        header: names of the columns; they are needed when the first row is written.
    """

    def __init__(self, target: Path, number: int) -> None:
        super().__init__(target)
        self.number = number
        self.header: Sequence[str] = ()
        self._file: IO[bytes] | None = None

    def finished(self) -> str:
        """Return whether the file exists."""
        return f"{self.target} exists already" if self.target.exists() else ""

    def require_place(self) -> None:
        """Refuse a folder of that name."""
        if self.target.is_dir():
            raise DataError(f"{self.target} is a folder; name a file")

    def clear(self) -> None:
        """Remove the unfinished file. A finished one stays until it is replaced."""
        self.partial.unlink(missing_ok=True)

    def start(self) -> None:
        """Make an empty file."""
        self._file = self.partial.open("w+b")

    def resume(self, place: Place) -> Place:
        """Cut off what came after the place. A file that is missing although all rows were written is in its place."""
        if self.partial.exists() and 0 < place.mark <= self.partial.stat().st_size:
            self._file = self.partial.open("r+b")
            self._file.truncate(place.mark)
            return place
        if place.rows == self.number and self.target.exists() and not self.partial.exists():
            return place
        self.start()
        return Place()

    def write(self, first: int, rows: TableRows) -> Place:
        """Append rows, the header before the first."""
        if self._file is None:
            self._file = self.partial.open("r+b")
        self._file.seek(0, os.SEEK_END)
        self._file.write(csv_bytes(rows if first else [self.header, *rows]))
        self._file.flush()
        os.fsync(self._file.fileno())
        return Place(first + len(rows), self._file.tell())

    def finish(self) -> None:
        """Rename the file."""
        self.close()
        if self.partial.exists():
            os.replace(self.partial, self.target)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
