"""Find keys in a table and their lines in its text, in time proportional to the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import tomli

from hebm.config.overrides import Path


def lines_of_keys(text: str) -> dict[Path, int]:
    """Return the line number, from 1, of the statement that first sets each key or list position.

    Arguments:
        text: valid TOML.
    """
    lines: dict[Path, int] = {}
    around: Path = ()
    counts: dict[Path, int] = {}
    for line, statement, table in _statements(text.split("\n")):
        if statement.lstrip().startswith("["):
            around = _opened(table, counts, array=statement.lstrip().startswith("[["))
            for depth in range(1, len(around) + 1):
                lines.setdefault(around[:depth], line)
        else:
            for path in _paths(table, around):
                lines.setdefault(path, line)
    return lines


def has(value: Any, path: Path) -> bool:
    """Return whether a table has a key or list position at this path."""
    for part in path:
        if isinstance(part, str) and isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(part, int) and isinstance(value, list) and part < len(value):
            value = value[part]
        else:
            return False
    return True


def _statements(lines: Sequence[str]) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Yield line number, text and parsed table of each header and each assignment.

    A value of many lines is parsed when its brackets balance, or after 1, 2, 4, 8 … lines.
    """
    start, brackets = 0, 0
    for end, last in enumerate(lines, 1):
        brackets += last.count("[") + last.count("{") - last.count("]") - last.count("}")
        count = end - start
        if brackets and count & (count - 1):
            continue
        statement = "\n".join(lines[start:end])
        try:
            table = tomli.loads(statement)
        except ValueError:
            continue
        if table:
            yield start + 1, statement, table
        start, brackets = end, 0


def _opened(table: dict[str, Any], counts: dict[Path, int], array: bool) -> Path:
    """Return the path of the table that a header opens.

    Arguments:
        table: the parsed header.
        counts: number of tables that each list of tables has so far; updated.
        array: True for a header of the form `[[name]]`.
    """
    path: Path = ()
    while isinstance(table, dict) and table:
        ((name, table),) = table.items()
        path = (*path, name)
        if array and isinstance(table, list):
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _paths(value: Any, path: Path) -> Iterator[Path]:
    """Yield the path of each key and list position in a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from _paths(inner, (*path, key))
