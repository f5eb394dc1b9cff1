"""The base of writers of a single file. Rows go to a file next to it, which is renamed or converted at the end."""

from __future__ import annotations

from typing import IO, TypeVar

from hebm.errors import DataError
from hebm.outputs.resumable import Writer

Rows = TypeVar("Rows")


class OneFile(Writer[Rows]):
    """A writer whose output is one file."""

    _file: IO[bytes] | None = None

    def finished(self) -> str:
        """Return whether the file exists."""
        return f"{self.target} exists already" if self.target.exists() else ""

    def require_place(self) -> None:
        """Raise `DataError` if the target is a folder."""
        if self.target.is_dir():
            raise DataError(f"{self.target} is a folder; name a file, or remove it")

    def clear(self) -> None:
        """Remove the unfinished file. A finished file stays until it is replaced."""
        self.partial.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the unfinished file, if it is open."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open_file(self) -> IO[bytes]:
        """Return the open unfinished file."""
        if self._file is None:
            self._file = self.partial.open("r+b")
        return self._file
