"""Write an output batch by batch. A killed process loses at most one batch, and the same command resumes the output.

A resumed output equals an uninterrupted one byte for byte: its content depends only on the settings in the journal, and
batches start at the same rows.
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
    """Writes one format of output. Rows are appended in order and not kept in memory.

    Arguments:
        target: the file or folder.
    """

    def __init__(self, target: Path) -> None:
        self.target = target

    @property
    def partial(self) -> Path:
        """The file that rows are written to until the output is finished."""
        return self.target.with_name(f"{self.target.name}.partial")

    @abstractmethod
    def finished(self) -> str:
        """Return a description of an existing output, such as "x.npz exists", or ""."""

    def require_place(self) -> None:
        """Raise `DataError` if the target exists and must not be replaced."""

    @abstractmethod
    def clear(self) -> None:
        """Remove the rows of an output that is not resumed. Raises `OSError`."""

    @abstractmethod
    def start(self) -> None:
        """Prepare the file for the first row. Raises `OSError`."""

    @abstractmethod
    def resume(self, place: Place) -> Place:
        """Return the place to resume from: `place`, or an earlier one if rows are missing. Raises `OSError`."""

    @abstractmethod
    def write(self, first: int, rows: Rows) -> Place:
        """Write rows from number `first` on, and return the place after them. Raises `OSError`."""

    @abstractmethod
    def finish(self) -> None:
        """Move the finished output into its place. May be called twice. Raises `OSError`."""

    def close(self) -> None:
        """Close open files. Called for finished and unfinished outputs."""


class Resumable(Generic[Rows]):
    """An output that can be resumed: `with Resumable(…) as output: …`.

    Arguments:
        writer: the writer of this format.
        settings: everything that the content depends on, by the names in messages, in JSON types.
        force: replace an existing output, unless it is an unfinished one with the same settings.

    Raises on entering:
        DataError: if the output exists, or if an unfinished one has other settings, which the error lists.
        CheckpointError: if another process writes the output, or if writing fails.
    """

    def __init__(self, writer: Writer[Rows], settings: Mapping[str, Any], force: bool = False) -> None:
        self.writer, self.force = writer, force
        self.settings: Mapping[str, Any] = json.loads(json.dumps(settings))

    @property
    def target(self) -> Path:
        """The file or folder to write."""
        return self.writer.target

    @property
    def done(self) -> int:
        """The number of written rows."""
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
        """Go back to an earlier row, such as the first row of an incomplete batch."""
        if rows < self.done:
            with reporting(f"write {self.target}"):
                self._journal.place = self.writer.resume(Place(rows))

    def write(self, rows: Rows) -> None:
        """Write the next rows. Raises `CheckpointError` if writing fails; earlier rows are kept."""
        with reporting(f"write {self.target}"):
            place = self.writer.write(self.done, rows)
        self._journal.reached(place)

    def finish(self) -> None:
        """Move the finished output into its place. Raises `CheckpointError` if this fails."""
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
