"""A TOML file with its overrides, and where each key is written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any

import attrs
import tomli

from hebm.config.overrides import Override, Path, assign
from hebm.errors import ConfigError


def dotted(path: Path) -> str:
    """Return a path as a user writes it.

    Example:
        >>> dotted(("evaluate", "metrics", 1, "two words"))
        'evaluate.metrics[1]."two words"'
    """
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        plain = re.fullmatch(r"[A-Za-z0-9_-]+", part)
        text += ("." if text else "") + (part if plain else '"' + repr(part)[1:-1] + '"')
    return text


@attrs.define(eq=False)
class Document:
    """A configuration file with its overrides.

    Arguments:
        name: the file, for messages.
        text: its content.
        overrides: changes of its keys, in order.
        table: the parsed content with the overrides applied.
        retyped: tables whose `type` was changed by an override.
    """

    name: str
    text: str
    overrides: tuple[Override, ...] = ()
    table: dict[str, Any] = attrs.field(factory=dict)
    retyped: set[Path] = attrs.field(factory=set)

    def stale(self, path: Path) -> bool:
        """Return whether a key belongs to the `type` that its table had before an override changed it."""
        return path[:-1] in self.retyped and not any(path == override.path[: len(path)] for override in self.overrides)

    def place(self, path: Path) -> str:
        """Return where a key is set: the change that sets it, or `file:line` of the key or of the table around it."""
        for override in reversed(self.overrides):
            if path[: len(override.path)] == override.path:
                return override.source
        for depth in range(len(path), 0, -1):
            line = self._line(path[:depth])
            if line is not None:
                return f"{self.name}:{line}"
            for override in reversed(self.overrides):
                if override.path[:depth] == path[:depth]:  # a table that an override alone has made
                    return override.source
        return self.name

    def _line(self, path: Path) -> int | None:
        return next((line for line, table in self._prefixes if has(table, path)), None)

    @cached_property
    def _prefixes(self) -> tuple[tuple[int, dict[str, Any]], ...]:
        """Yield every line-prefix that parses as TOML: the first line of its last statement, and the table."""
        return tuple(_prefixes(self.text.split("\n")))


def _prefixes(lines: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    start = 1
    for end in range(1, len(lines) + 1):
        try:
            table = tomli.loads("\n".join(lines[:end]))
        except ValueError:
            continue
        yield start, table
        start = end + 1


def has(value: Any, path: Path) -> bool:
    """Return whether a table has a key, or a list inside it a position, at this path."""
    for part in path:
        if isinstance(part, str) and isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(part, int) and isinstance(value, list) and part < len(value):
            value = value[part]
        else:
            return False
    return True


def read(path: str | FilePath, overrides: Sequence[Override] = ()) -> Document:
    """Read a file and change some of its keys.

    Raises `ConfigError` if the file cannot be read, is not TOML (with its line), or a change goes through a value.
    """
    return read_text(_text(path), str(path), overrides)


def read_text(text: str, name: str, overrides: Sequence[Override] = ()) -> Document:
    """Return the document of a file's text with some keys changed. Raises `ConfigError` as `read` does."""
    document = Document(name, text, tuple(overrides))
    document.table = _parsed(document)
    for override in document.overrides:
        if assign(document.table, override):
            document.retyped.add(override.path[:-1])
    return document


def _text(path: str | FilePath) -> str:
    try:
        return FilePath(path).read_bytes().decode().replace("\r\n", "\n")
    except IsADirectoryError:
        raise ConfigError(
            f"{path}: is a folder; give a TOML file, or open a run's folder in Python by hebm.open_run"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror or error}); `hebm init` writes a file to start from"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8 text") from None
    except ValueError as error:
        raise ConfigError(f"{path!r}: is not a file name ({error})") from None


def _parsed(document: Document) -> dict[str, Any]:
    try:
        return tomli.loads(document.text)
    except ValueError as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(found[1]) if found else document.text.count("\n") + 1
        raise ConfigError(f"{document.name}:{line}: is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{document.name}: is nested too deeply") from None
