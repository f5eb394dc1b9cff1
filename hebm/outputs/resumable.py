"""Write an output batch by batch, so that a process that is killed loses one batch, and the same command goes on.

The output of an interrupted command and of the one that goes on are equal, byte for byte, to an uninterrupted one's:
what is written depends on the settings in the journal alone, and rows come in batches that start at the same rows.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from hebm.errors import DataError
from hebm.outputs.journal import SUFFIX, Journal, Place
from hebm.store.durable import reporting

Rows = TypeVar("Rows")
_SHOWN = 80


class Writer(ABC, Generic[Rows]):
    """Writes one kind of output. Rows are appended in order; nothing is kept in memory.

    Arguments:
        target: the file or folder.
    """

    def __init__(self, target: Path) -> None:
        self.target = target

    @property
    def partial(self) -> Path:
        """The file that rows are written to until the output is whole."""
        return self.target.with_name(f"{self.target.name}.partial")

    @abstractmethod
    def finished(self) -> str:
        """Return what is there already, such as "x.npz exists"; "" if there is nothing."""

    def require_place(self) -> None:
        """Raise `DataError` if something is in the way that must not be replaced."""

    @abstractmethod
    def clear(self) -> None:
        """Remove rows of an output that is not gone on with. Raises `OSError`."""

    @abstractmethod
    def start(self) -> None:
        """Make room for the first row. Raises `OSError`."""

    @abstractmethod
    def resume(self, place: Place) -> Place:
        """Return the place to go on from, which is `place` unless rows are missing. Raises `OSError`."""

    @abstractmethod
    def write(self, first: int, rows: Rows) -> Place:
        """Write rows, the first of which has number `first`; return the place behind them. Raises `OSError`."""

    @abstractmethod
    def finish(self) -> None:
        """Put the whole output into its place. Doing it twice does no harm. Raises `OSError`."""

    def close(self) -> None:
        """Release open files; called whether the output is whole or not."""


class Resumable(Generic[Rows]):
    """An output that is gone on with: `with Resumable(…) as output: …`.

    Arguments:
        writer: of this kind of output.
        settings: all that decides its content, by the names that messages use; values of JSON.
        force: replace what is there, if it is not an unfinished output of the same settings.

    Raises on entering:
        DataError: if the output exists, or an unfinished one has other settings; it says which.
        CheckpointError: if another process writes it, or the disk does not let it.
    """

    def __init__(self, writer: Writer[Rows], settings: Mapping[str, Any], force: bool = False) -> None:
        self.writer, self.force = writer, force
        self.settings: Mapping[str, Any] = json.loads(json.dumps(settings))

    @property
    def target(self) -> Path:
        """The file or folder that is written."""
        return self.writer.target

    @property
    def done(self) -> int:
        """The number of rows that are written."""
        return self._journal.place.rows

    def __enter__(self) -> Self:
        target = Path(os.path.abspath(self.target))  # "." has no name, and what it means has one
        if not target.name:
            raise DataError(f"-o {self.target}: the root folder is not an output; name another")
        self.writer.require_place()
        with reporting(f"write {target}"):
            target.parent.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(target.with_name(f"{target.name}{SUFFIX}"), self.force)
        try:
            with reporting(f"write {target}"):
                self._open()
        except BaseException:
            self._close()
            raise
        return self

    def _open(self) -> None:
        journal = self._journal
        if journal.settings == self.settings:
            journal.place = self.writer.resume(journal.place)
            return
        if journal.settings is not None and not self.force:
            raise DataError(self._differing(journal.settings))
        if journal.settings is None and not self.force and (found := self.writer.finished()):
            raise DataError(f"{found}; name another with -o, or replace it with --force")
        journal.forget()
        self.writer.clear()
        journal.start(self.settings)
        self.writer.start()

    def rewind(self, rows: int) -> None:
        """Write again from an earlier row on, such as the first of a batch that is not whole."""
        if rows < self.done:
            with reporting(f"write {self.target}"):
                self._journal.place = self.writer.resume(Place(rows))

    def write(self, rows: Rows) -> None:
        """Write the next rows. Raises `CheckpointError` if the disk does not let it; what was written stays."""
        with reporting(f"write {self.target}"):
            place = self.writer.write(self.done, rows)
        self._journal.reached(place)

    def finish(self) -> None:
        """Put the whole output into its place. Raises `CheckpointError`."""
        with reporting(f"write {self.target}"):
            self.writer.finish()
        self._journal.end()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        self.writer.close()
        self._journal.close()

    def _differing(self, before: Mapping[str, Any]) -> str:
        names = sorted(name for name in {*before, *self.settings} if before.get(name) != self.settings.get(name))
        changes = "; ".join(
            f"{name}: {_shown(before, name)} there, {_shown(self.settings, name)} now" for name in names
        )
        return (
            f"{self.target} is unfinished, with {self.done:,} written by other settings ({changes}); give the settings "
            "it was started with, name another with -o, or start again with --force"
        )


def _shown(settings: Mapping[str, Any], name: str) -> str:
    value = settings.get(name)
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
