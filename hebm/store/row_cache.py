"""A cache of computed rows, in memory or in a folder that processes and runs share."""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from hebm.errors import ConfigError
from hebm.store.caches import entries_of
from hebm.store.durable import reporting
from hebm.store.lock import waiting_lock
from hebm.store.row_files import ABOUT, InFiles, about
from hebm.store.rows import InMemory, KeptRows, Make, Table

MIB, GIB = 2**20, 2**30


@attrs.define
class TableTime:
    """The time for rows of a group of tables in a trial.

    Arguments:
        rows: number of rows of all tables.
        made: number of rows that were computed.
        seconds: time for these rows.
    """

    rows: int
    made: int = 0
    seconds: float = 0.0

    def seconds_of(self, most: int) -> float:
        """Return the estimated seconds for all rows, but for at most `most` rows."""
        return min(self.rows, most) * self.seconds / self.made if self.made else 0.0


@attrs.frozen(eq=False)
class Trial:
    """Collect the time for rows while training is tried.

    Arguments:
        tables: the opened groups of tables, in order.
    """

    tables: list[TableTime] = attrs.field(factory=list)

    @property
    def seconds(self) -> float:
        """The seconds spent on rows so far."""
        return sum(table.seconds for table in self.tables)

    def timing(self, table: Table, makes: Mapping[str, Make]) -> dict[str, Make]:
        """Return functions that compute the same rows and record their time."""
        self.tables.append(found := TableTime(len(makes) * table.rows))

        def timed(make: Make) -> Make:
            def made(first: int, count: int) -> Mapping[str, Tensor]:
                started = time.perf_counter()
                rows = make(first, count)
                found.made, found.seconds = found.made + count, found.seconds + time.perf_counter() - started
                return rows

            return made

        return {name: timed(make) for name, make in makes.items()}


@attrs.frozen
class RowCache:
    """Open tables of rows that are computed once.

    Arguments:
        folder: the folder, which runs share; None stores rows in memory.
        limit: maximum size of the folder in GiB; tables that no process uses make room for new ones.
        identity: everything that all rows depend on, as JSON values.
        say: called with a message about rows that will be stored.
        trial: checks the free space, stores rows in memory, and times them.
    """

    folder: Path | None = None
    limit: float = math.inf
    identity: Mapping[str, Any] = attrs.field(factory=dict)
    say: Callable[[str], None] = lambda text: None
    trial: Trial | None = None

    def bound(self, identity: Mapping[str, Any]) -> RowCache:
        """Return the cache for rows that also depend on `identity`."""
        return attrs.evolve(self, identity={**self.identity, **identity})

    def open(self, what: str, table: Table, makes: Mapping[str, Make], fewer: str) -> tuple[KeptRows, ...]:
        """Open tables of the same layout. If they do not fit, delete others that no process uses, the oldest first.

        Arguments:
            what: the name of the content, which starts the names of the folders.
            table: the layout.
            makes: the function that computes the rows of each table, by a unique name.
            fewer: the configuration key that reduces the stored data, for errors.

        Raises:
            ConfigError: if the limit or the disk has no space for them, even without the tables that no process uses.
            CheckpointError: if the folder cannot be written.
        """
        if self.folder is None:
            return tuple(KeptRows(table, InMemory(table), make) for make in makes.values())
        with reporting(f"keep {what} under {self.folder}"):
            found = {name: self._path(what, about({**self.identity, "part": name}, table)) for name in makes}
            if self.trial is not None:
                self._reserve(what, table, [path for path, _ in found.values()], fewer)
                return attrs.evolve(self, folder=None).open(what, table, self.trial.timing(table, makes), fewer)
            with self._locked():
                self._reserve(what, table, [path for path, _ in found.values()], fewer)
                self.folder.mkdir(exist_ok=True)
                places = {name: InFiles(path, text, table) for name, (path, text) in found.items()}
        return tuple(KeptRows(table, places[name], make) for name, make in makes.items())

    def place(self, path: Path, text: bytes, table: Table) -> InFiles | str:
        """Open one table of the folder as `open` does, or return why it does not fit, as the end of a sentence.

        Arguments:
            path: its folder.
            text: the content of its about.json.
            table: the layout.

        Raises `CheckpointError` if the folder cannot be written.
        """
        with reporting(f"write {path}"), self._locked():
            if not (path / ABOUT).exists() and (lacking := self._make_room(table.bytes, [path])):
                return lacking
            path.parent.mkdir(exist_ok=True)
            return InFiles(path, text, table)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock for opening and deleting tables."""
        folder = Path(self.folder or "")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with waiting_lock(folder.with_name(f"{folder.name}.lock")):
            yield

    def _path(self, what: str, text: bytes) -> tuple[Path, bytes]:
        """Return the folder of rows with this identity text, and the text."""
        return Path(self.folder or "") / f"{what.replace(' ', '-')}-{hashlib.sha256(text).hexdigest()[:20]}", text

    def _reserve(self, what: str, table: Table, paths: Sequence[Path], fewer: str) -> None:
        """Make room for new tables, and report what will be stored. Raises `ConfigError` if they do not fit."""
        missing = sum(not (path / ABOUT).exists() for path in paths)
        if not missing:
            return
        need = missing * table.bytes
        rows = f"{missing} × {table.rows:,}" if missing > 1 else f"{table.rows:,}"
        row = ", ".join(f"{name} {column.bytes:,} bytes" for name, column in table.columns.items())
        if lacking := self._make_room(need, paths, f" (one row: {row})"):
            raise ConfigError(
                f"run.cache_folder: {rows} {what} {lacking}; raise run.cache_limit, choose another "
                f"run.cache_folder, or lower {fewer}"
            )
        self.say(f"stores {rows} {what} ({need / MIB:.3g} MiB) in {self.folder}, as training uses them")

    def _make_room(self, need: int, ours: Sequence[Path], details: str = "") -> str:
        """Delete tables until this number of bytes fits; return "need 3 GiB, but …" if it cannot fit, otherwise "".

        Tables in use and `ours` are not deleted. A trial deletes nothing.
        """
        folder = Path(self.folder or "")
        tables = entries_of(folder)
        unused = [entry for entry in tables if entry.path not in ours and not entry.in_use]
        kept, free = sum(entry.reserved for entry in tables), shutil.disk_usage(_existing(folder)).free
        in_use, most = kept - sum(entry.reserved for entry in unused), free + sum(entry.size for entry in unused)
        if need + in_use > self.limit * GIB:
            least = f"run.cache_limit is {self.limit:.3g} GiB, of which {in_use / GIB:.3g} GiB are in use"
            return f"need {need / GIB:.3g} GiB{details}, but {least}"
        if need > most:
            return f"need {need / GIB:.3g} GiB{details}, but the disk has {most / GIB:.3g} GiB left"
        for entry in () if self.trial is not None else unused:
            if need + kept <= self.limit * GIB and need <= free:
                break
            entry.remove()
            self.say(f"deleted {entry.path}, which no run uses, to make room")
            kept, free = kept - entry.reserved, free + entry.size
        return ""


def _existing(folder: Path) -> Path:
    """Return the folder, or its closest parent that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())
