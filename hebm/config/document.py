"""A TOML file with its overrides, and the place of each key."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path as FilePath
from typing import Any

import attrs
import tomli

from hebm.config.overrides import Override, Path, assign
from hebm.config.places import lines_of_keys
from hebm.errors import ConfigError


def dotted(path: Path) -> str:
    """Return a path in the notation of users.

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
        name: the file's name in messages.
        text: the file's content.
        overrides: changes of its keys, in order.
        table: the parsed content with the overrides applied.
        retyped: the former `type` of each table whose `type` an override changed; "" if it had none.
    """

    name: str
    text: str
    overrides: tuple[Override, ...] = ()
    table: dict[str, Any] = attrs.field(factory=dict)
    retyped: dict[Path, str] = attrs.field(factory=dict)

    def apply(self, override: Override) -> None:
        """Set or remove one key of the table, as `assign` does."""
        former = assign(self.table, override)
        if former is not None:
            self.retyped.setdefault(override.path[:-1], former)

    def stale(self, path: Path) -> bool:
        """Return whether a key was written for the former `type` of its table, which an override changed."""
        return path[:-1] in self.retyped and not any(_overlap(path, override.path) for override in self.overrides)

    def place(self, path: Path) -> str:
        """Return where a key is set: the override that sets it, or `file:line` of the key or of its table."""
        for override in reversed(self.overrides):
            if path[: len(override.path)] == override.path:
                return override.source
        for depth in range(len(path), 0, -1):
            line = self._line(path[:depth])
            if line is not None:
                return f"{self.name}:{line}"
            for override in reversed(self.overrides):
                if override.path[:depth] == path[:depth]:  # a table that exists only by an override
                    return override.source
        return self.name

    def written(self, path: Path) -> str | None:
        """Return the text of a key's value on the command line; None if the command line does not set it."""
        return next((override.text for override in reversed(self.overrides) if override.path == path), None)

    def _line(self, path: Path) -> int | None:
        return self._lines.get(path)

    @cached_property
    def _lines(self) -> Mapping[Path, int]:
        """The line of each key of the text."""
        try:
            return lines_of_keys(self.text)
        except RecursionError:  # tomli before 2.5 reads keys of thousands of parts
            raise ConfigError(f"{self.name}: is nested too deeply") from None


def _overlap(a: Path, b: Path) -> bool:
    """Return whether one of two keys is the other or lies in its table."""
    return all(x == y for x, y in zip(a, b, strict=False))


def read(path: str | FilePath, overrides: Sequence[Override] = ()) -> Document:
    """Read a file and apply overrides.

    Raises `ConfigError` if the file cannot be read, is not TOML (with the line), or if an override treats a value as a
    table.
    """
    return read_text(_text(path), str(path), overrides)


def read_text(text: str, name: str, overrides: Sequence[Override] = ()) -> Document:
    """Return the document of a text with overrides applied. Raises `ConfigError` like `read`."""
    document = Document(name, text, tuple(overrides))
    document.table = _parsed(document)
    for override in document.overrides:
        document.apply(override)
    return document


def _text(path: str | FilePath) -> str:
    try:
        return _decoded(FilePath(path).read_bytes()).replace("\r\n", "\n")
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; {_of_a_folder(FilePath(path))}") from None
    except OSError as error:
        tried = "" if FilePath(path).is_absolute() else f" (tried {FilePath(path).absolute()})"
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror or error}){tried}; `hebm init` writes a file to start from"
        ) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8 text") from None
    except ValueError as error:
        raise ConfigError(f"{path!r}: is not a file name ({error})") from None


def _decoded(data: bytes) -> str:
    """Decode UTF-8, or UTF-8 or UTF-16 with a byte-order mark, as editors and shells on Windows write it."""
    return data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")


def _of_a_folder(folder: FilePath) -> str:
    """Return the advice for a folder that was given as a file."""
    own = folder / "config.toml"
    if own.is_file():
        return (
            f"the configuration of this run is {own}: `hebm run {own}` resumes it; `hebm report`, `evaluate` and "
            "`sample` take the folder"
        )
    return "give a TOML file; `hebm init` writes one to start from"


def _parsed(document: Document) -> dict[str, Any]:
    try:
        return tomli.loads(document.text)
    except ValueError as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(found[1]) if found else document.text.count("\n") + 1
        raise ConfigError(f"{document.name}:{line}: is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{document.name}: is nested too deeply") from None
