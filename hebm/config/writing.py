"""Write recipes as TOML, so that reading it back gives equal recipes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

import attrs
import tomli_w

from hebm import registry
from hebm.config.document import Document, dotted
from hebm.config.overrides import Override, Path
from hebm.config.recipes import fields_of, group_of
from hebm.config.structure import structure
from hebm.errors import ConfigError


def to_table(recipe: Any) -> dict[str, Any]:
    """Return a recipe as a TOML table: components with their `type`, tuples as lists, without None values.

    Raises `PluginError` for a component that is not registered.
    """
    cls = type(recipe)
    table: dict[str, Any] = {"type": registry.name_of(cls)} if group_of(cls) else {}
    for field in fields_of(cls):
        value = getattr(recipe, field.name)
        if value is not None:
            table[field.name] = plain(value)
    return table


def plain(value: Any) -> Any:
    """Return a value in TOML types: recipes as tables, tuples as lists, paths as strings."""
    if attrs.has(type(value)):
        return to_table(value)
    if isinstance(value, PurePath):
        return str(value)
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def in_toml(overrides: Sequence[Override]) -> tuple[Override, ...]:
    """Return changes of keys with their values in TOML types."""
    return tuple(attrs.evolve(override, value=plain(override.value)) for override in overrides)


def dumps(recipe: Any) -> str:
    """Return an experiment or settings as complete TOML. Reading it back gives an equal object.

    Raises `ConfigError` if this is impossible: TOML has no None, so a None set in Python is lost if the default of a
    nested component is another value.
    """
    table = to_table(recipe)
    text = "\n".join(_lines(table)) + "\n"
    again = structure(type(recipe), Document("resolved configuration", text, table=table))
    for path, value, read in differences(recipe, again):
        raise ConfigError(
            f"{path}: {value!r} cannot be written to TOML, since it would be read as {read!r}; set another value"
        )
    return text


def _lines(table: dict[str, Any], path: Path = ()) -> Iterator[str]:
    """Yield one line per key, then the nested tables. (tomli_w would write each list element on its own line.)"""
    yield from (f"{key} = {inline(value)}" for key, value in table.items() if not isinstance(value, dict))
    for key, value in table.items():
        if isinstance(value, dict):
            yield from ("", f"[{dotted((*path, key))}]", *_lines(value, (*path, key)))


def inline(value: Any) -> str:
    """Return a value as TOML on one line, for listings and messages."""
    if attrs.has(type(value)):
        value = to_table(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {inline(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(inline, value)) + "]"
    return tomli_w.dumps({"v": value}).partition("=")[2].strip()


def differences(a: Any, b: Any) -> list[tuple[str, Any, Any]]:
    """List differences of two recipes as (key path, value in `a`, value in `b`), with None for a missing key."""
    ours, theirs = dict(_leaves(to_table(a))), dict(_leaves(to_table(b)))
    paths = [*ours, *(path for path in theirs if path not in ours)]
    differing = [path for path in paths if ours.get(path) != theirs.get(path)]
    return [(dotted(path), ours.get(path), theirs.get(path)) for path in differing]


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the path and value of each entry that is neither a table nor a list of tables."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path, value
