"""Write a table as CSV, batch by batch."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from hebm.outputs.journal import Place
from hebm.outputs.one_file import OneFile

TableRows: TypeAlias = Sequence[Sequence[Any]]


def csv_bytes(rows: TableRows) -> bytes:
    """Return rows as lines of CSV in UTF-8. File names that are not UTF-8 keep their bytes."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode(errors="surrogateescape")


class CsvFile(OneFile[TableRows]):
    """Writes a CSV file. Rows go to a file next to it, which is renamed at the end.

    Arguments:
        target: the final file.
        number: final number of rows.

    Attributes:
        header: names of the columns; set it before the first row is written.
    """

    def __init__(self, target: Path, number: int) -> None:
        super().__init__(target)
        self.number = number
        self.header: Sequence[str] = ()

    def start(self) -> None:
        """Create an empty unfinished file."""
        self._file = self.partial.open("w+b")

    def resume(self, place: Place) -> Place:
        """Truncate the file after the place. If it is missing and all rows were written, it is in its final place."""
        if self.partial.exists() and 0 < place.mark <= self.partial.stat().st_size:
            self._file = self.partial.open("r+b")
            self._file.truncate(place.mark)
            return place
        if place.rows == self.number and self.target.exists() and not self.partial.exists():
            return place
        self.start()
        return Place()

    def write(self, first: int, rows: TableRows) -> Place:
        """Append rows, with the header before the first."""
        file = self._open_file()
        file.seek(0, os.SEEK_END)
        file.write(csv_bytes(rows if first else [self.header, *rows]))
        file.flush()
        os.fsync(file.fileno())
        return Place(first + len(rows), file.tell())

    def finish(self) -> None:
        """Move the file into its place."""
        self.close()
        if self.partial.exists():
            os.replace(self.partial, self.target)
