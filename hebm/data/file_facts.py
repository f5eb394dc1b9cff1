"""Store facts about large files, such as hashes of their values, so that later commands need not read all of them.

    <cache folder>/facts/<file>-<key>.json

The key depends on the path, size and times of the file, so a changed file gets other facts. Facts about files under
64 MiB are not stored.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import attrs

from hebm.config.paths import expanded
from hebm.config.settings import RunSettings
from hebm.errors import DataError
from hebm.store.durable import read_file, replace_file
from hebm.store.json_shapes import ShapeError, parsed, shaped

logger = logging.getLogger(__name__)

LAYOUT = 1
"""Raise it if the same file would give other facts."""
SMALLEST = 64 << 20
"""Smallest size in bytes of a file whose facts are stored."""
KIND = "facts"
_FOLDER: ContextVar[Path | None] = ContextVar("folder of facts", default=None)


@contextmanager
def storing_facts(run: RunSettings) -> Iterator[None]:
    """Let data sets that are loaded in the context store facts about their files in `cache_folder`."""
    token = _FOLDER.set(Path(expanded(run.cache_folder)) / KIND)
    try:
        yield
    finally:
        _FOLDER.reset(token)


@attrs.frozen
class _Kept:
    """The content of a file: what the fact is about, and the fact."""

    about: str
    found: tuple[str, ...]


@attrs.frozen
class FileFacts:
    """The facts about one file.

    Arguments:
        path: the file.
        folder: where facts are stored; None stores nothing.
        stamp: size, and times of the last change of content and of any attribute.
    """

    path: Path
    folder: Path | None
    stamp: tuple[int, int, int]

    @classmethod
    def of(cls, path: Path) -> FileFacts:
        """Return the facts about a file, which are stored inside `storing_facts`. Raises `DataError` without a file."""
        stamp = _stamp(path)
        return cls(path, _FOLDER.get() if stamp[0] >= SMALLEST else None, stamp)

    def get(self, what: str, compute: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
        """Return a fact, and compute and store it if it is not stored.

        A fact is not stored if the file changes meanwhile.

        Arguments:
            what: everything that the fact depends on besides the file.
            compute: reads the file.
        """
        if self.folder is None:
            return compute()
        about = json.dumps([LAYOUT, str(self.path.absolute()), self.stamp, what])
        readable = re.sub(r"[^\w.-]", "-", self.path.name, flags=re.ASCII)[:40]
        place = self.folder / f"{readable}-{hashlib.sha256(about.encode()).hexdigest()[:20]}.json"
        kept = _read(place)
        if kept is not None and kept.about == about:
            return kept.found
        found = compute()
        if _stamp(self.path) == self.stamp:
            _write(place, _Kept(about, found))
        return found


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        about = os.stat(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _read(place: Path) -> _Kept | None:
    try:
        kept: _Kept = shaped(_Kept, parsed(read_file(place)))
    except FileNotFoundError:
        return None
    except (OSError, ShapeError) as error:
        logger.warning("%s is damaged, its file is read again: %s", place, error)
        return None
    return kept


def _write(place: Path, kept: _Kept) -> None:
    """Write a fact. If the folder cannot be written, log a warning, since this only costs time."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        replace_file(place, json.dumps(attrs.asdict(kept), indent=1).encode())
    except OSError as error:
        logger.warning("facts about a file cannot be stored in %s: %s", place, error)
