"""`--set a.b.c=value`: keys given on the command line.

The right side is parsed as TOML; a bare word that is not valid TOML (`image-folder`, `/some/path`) is a string.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs
import tomli

from hebm.errors import ConfigError

Path = tuple[str | int, ...]
"""Where a value stands in a document: keys of tables, positions in lists."""

_QUOTING = frozenset("\"'[]{}\n\r")


@attrs.frozen
class Override:
    """One `--set`: its text as typed, the key's path, and the value."""

    text: str
    path: tuple[str, ...]
    value: Any


def parse(texts: Iterable[str]) -> tuple[Override, ...]:
    """Parse the overrides of the command line. Raises `ConfigError` with everything that is malformed."""
    overrides, complaints = [], []
    for text in texts:
        try:
            overrides.append(_parse(text))
        except ConfigError as error:
            complaints.append(str(error))
    if complaints:
        raise ConfigError("\n".join(complaints))
    return tuple(overrides)


def _parse(text: str) -> Override:
    key, equals, value = text.partition("=")
    if not equals or not value.strip():
        raise ConfigError(f"--set {text}: expected KEY=VALUE, such as prior.sampler.steps=30")
    return Override(text, _path(key, text), _value(value.strip(), text))


def _path(key: str, text: str) -> tuple[str, ...]:
    try:
        table: Any = tomli.loads(f"{key} = 0")
    except (tomli.TOMLDecodeError, RecursionError):
        raise ConfigError(f"--set {text}: {key!r} is not a key; expected names joined by dots") from None
    path: list[str] = []
    while isinstance(table, dict) and len(table) == 1:
        ((name, table),) = table.items()
        path.append(name)
    if table != 0 or "\n" in key:
        raise ConfigError(f"--set {text}: {key!r} is not one key")
    return tuple(path)


def _value(value: str, text: str) -> Any:
    try:
        table = tomli.loads(f"value = {value}")
    except (ValueError, RecursionError) as error:
        if _QUOTING.isdisjoint(value):
            return value
        raise ConfigError(f"--set {text}: {value!r} is not a TOML value ({error})") from None
    if list(table) != ["value"]:
        raise ConfigError(f"--set {text}: more than one value")
    return table["value"]


def assign(table: dict[str, Any], override: Override) -> bool:
    """Set one key in `table`, making tables on the way; a bare name on the way becomes a table with that `type`.

    Returns whether the key is a `type` that was another one before, or none. Raises `ConfigError` where the path
    goes through something that has no keys.
    """
    *parents, last = override.path
    for depth, key in enumerate(parents, 1):
        inner = table.setdefault(key, {})
        if isinstance(inner, str):
            inner = table[key] = {"type": inner}
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override.text}: {'.'.join(override.path[:depth])} is not a table")
        table = inner
    retyped = last == "type" and table.get("type") != override.value
    table[last] = override.value
    return retyped
