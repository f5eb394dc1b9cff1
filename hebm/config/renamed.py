"""Explain keys of older files, using the former places in `option(…, renamed_from=…)`.

An unknown key that is the former place of a field gives the message "this key is now …", and the message that the new
key is missing is dropped.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import attrs

from hebm.config.document import dotted
from hebm.config.overrides import Path
from hebm.config.places import has
from hebm.config.recipes import default_of, fields_of, group_of, is_recipe
from hebm.errors import HebmError


@attrs.frozen
class Problem:
    """One problem of a document.

    Arguments:
        path: the key.
        text: the problem, and the allowed values.
        kind: "unknown" for an unknown key, "missing" for a required one, "value" for everything else.
    """

    path: Path
    text: str
    kind: Literal["value", "unknown", "missing"] = "value"


@attrs.frozen(eq=False)
class Filled:
    """A table that was read as a recipe.

    Arguments:
        cls: the recipe's class.
        path: the table.
        base: the recipe that gives the defaults; None for the class's own defaults.
    """

    cls: type
    path: Path
    base: Any = None


def explained(problems: Sequence[Problem], filled: Sequence[Filled], table: Mapping[str, Any]) -> list[Problem]:
    """Return the problems, with explanations for unknown keys that were renamed.

    Arguments:
        problems: all problems found.
        filled: all tables that were read as recipes.
        table: the whole document.
    """
    if all(problem.kind != "unknown" for problem in problems):
        return list(problems)
    renames = {old: new for old, new in _renames(filled) if has(table, old)}
    used: set[Path] = set()
    found: list[Problem] = []
    for problem in problems:
        olds = [old for old in renames if problem.kind == "unknown" and old[: len(problem.path)] == problem.path]
        found += [Problem(old, f"this key is now {dotted(renames[old])}") for old in olds] or [problem]
        used.update(renames[old] for old in olds)
    return [problem for problem in found if problem.kind != "missing" or problem.path not in used]


def _renames(filled: Sequence[Filled]) -> Iterator[tuple[Path, Path]]:
    """Yield (old path, new path) of every renamed key, outer tables before nested ones."""
    seen = {one.path for one in filled}
    for one in sorted((part for top in filled for part in _with_defaults(top, seen)), key=lambda part: len(part.path)):
        for field in fields_of(one.cls):
            for old in field.metadata.get("renamed_from", ()):
                yield _resolved(one.path, old), (*one.path, field.name)


def _with_defaults(top: Filled, seen: Iterable[Path]) -> Iterator[Filled]:
    """Yield a table, then its nested tables that are not in the file, since a key may have moved into one of them."""
    yield top
    for field in fields_of(top.cls):
        path = (*top.path, field.name)
        nested = None if path in seen else _nested(field, top.base)
        if nested is not None:
            yield from _with_defaults(Filled(nested[0], path, nested[1]), seen)


def _nested(field: attrs.Attribute[Any], base: Any) -> tuple[type, Any] | None:
    """Return the recipe class and the default of a field that is a table, or None."""
    try:
        default = default_of(field) if base is None else getattr(base, field.name)
    except (HebmError, TypeError, ValueError, ArithmeticError, LookupError):  # raised by a plugin's code
        default = None
    if is_recipe(type(default)):
        return type(default), default
    members = [field.type, *typing.get_args(field.type)]
    settings = [member for member in members if is_recipe(member) and not group_of(member)]
    return (settings[0], None) if settings else None


def _resolved(table: Path, old: str) -> Path:
    """Return the path of a `renamed_from` entry for a field of `table`.

    Example:
        >>> _resolved(("prior", "drawing"), "../particles")
        ('prior', 'particles')
    """
    path = () if old.startswith("/") else table
    for part in old.strip("/").split("/"):
        path = _around(path) if part == ".." else (*path, part)
    return path


def _around(path: Path) -> Path:
    """Return the path of the parent table, ignoring positions in lists."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    return path[:-1]
