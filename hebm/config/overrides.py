"""Changes of single keys: `--set a.b.c=value` on the command line, `{"a.b.c": value}` in Python.

On the command line, the value is parsed as TOML; a bare word that is not valid TOML (`image-folder`, `/some/path`) is a
string. In Python, it is a TOML value, a recipe, or None, which removes the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import attrs
import tomli

from hebm.config.values import show
from hebm.errors import ConfigError

Path = tuple[str | int, ...]
"""The path of a value in a document: keys of tables and positions in lists."""

_QUOTING = frozenset("\"'[]{}\n\r")


@attrs.frozen
class Override:
    """A change of one key.

    Arguments:
        source: the change as the user wrote it, for messages.
        path: the key.
        value: the new value; None removes the key.
        text: the text of the value on the command line. Keys of type string use it unchanged.
    """

    source: str
    path: tuple[str, ...]
    value: Any
    text: str | None = None


Changes: TypeAlias = Mapping[str, Any] | Sequence[str | Override]
"""Values by dotted key, `--set` texts, or parsed changes."""


def parse(changes: Changes) -> tuple[Override, ...]:
    """Parse changes of keys. Raises `ConfigError` with all malformed ones."""
    if isinstance(changes, str):
        raise ConfigError(f'changes: {changes!r} is one text; give a mapping, such as {{"seed": 1}}')
    every: Iterable[Any] = _flat(changes) if isinstance(changes, Mapping) else changes
    overrides, complaints = [], []
    for change in every:
        try:
            overrides.append(change if isinstance(change, Override) else _parsed(change))
        except ConfigError as error:
            complaints.append(str(error))
    if complaints:
        raise ConfigError("\n".join(complaints))
    return tuple(overrides)


def _flat(changes: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[Any, Any]]:
    """Yield key and value of each change. A nested mapping changes only its own keys."""
    for key, value in changes.items():
        whole = f"{prefix}{key}" if isinstance(key, str) else key
        if isinstance(value, Mapping):
            yield from _flat(value, f"{whole}.")
        else:
            yield whole, value


def _parsed(change: Any) -> Override:
    if isinstance(change, tuple):
        return _of_pair(change)
    if isinstance(change, str):
        return _of_text(change)
    raise ConfigError(f'changes: {show(change)} is not a change; give a mapping, such as {{"seed": 1}}')


def _of_text(text: str) -> Override:
    source, (key, equals, value) = f"--set {text}", text.partition("=")
    if not equals or not value.strip():
        raise ConfigError(f"{source}: expected KEY=VALUE, such as prior.sampler.steps=30")
    return Override(source, _path(key, source), _value(value.strip(), source), value.strip())


def of_option(flag: str, key: str, text: str) -> Override:
    """Return the change that a command-line option makes: `--steps 30` sets the key `steps`.

    Arguments:
        flag: the option, for messages.
        key: the key that it sets.
        text: its value, as for `--set`.

    Raises `ConfigError` for a malformed value.
    """
    source = f"{flag} {text}"
    return Override(source, (key,), _value(text, source), text)


def _of_pair(pair: tuple[Any, Any]) -> Override:
    key, value = pair
    source = "changes"
    if not isinstance(key, str):
        raise ConfigError(f"{source}: {key!r} is not a key; expected names joined by dots, such as prior.sampler.steps")
    return Override(source, _path(key, source), tuple(value) if isinstance(value, list) else value)


def _one_at_a_time(source: str) -> str:
    if source == "changes":
        return 'write each key on its own, such as {"seed": 1, "prior.sampler.steps": 30}'
    return "repeat --set for each key, such as --set seed=1 --set prior.sampler.steps=30"


def _path(key: str, source: str) -> tuple[str, ...]:
    try:
        table: Any = tomli.loads(f"{key} = 0")
    except (tomli.TOMLDecodeError, RecursionError):
        raise ConfigError(
            f"{source}: {key!r} is not a key; expected names joined by dots, such as prior.sampler.steps"
        ) from None
    path: list[str] = []
    while isinstance(table, dict) and len(table) == 1:
        ((name, table),) = table.items()
        path.append(name)
    if table != 0 or "\n" in key:
        raise ConfigError(f"{source}: {key!r} is not one key; {_one_at_a_time(source)}")
    return tuple(path)


def _value(value: str, source: str) -> Any:
    try:
        table = tomli.loads(f"value = {value}")
    except (ValueError, RecursionError) as error:
        if _QUOTING.isdisjoint(value):
            return value
        raise ConfigError(f"{source}: {value!r} is not a TOML value ({error}); check its quotes and brackets") from None
    if list(table) != ["value"]:
        raise ConfigError(f"{source}: has more than one value; {_one_at_a_time(source)}")
    return table["value"]


def assign(table: dict[str, Any], override: Override) -> str | None:
    """Set or remove one key of `table`, creating tables on the way; a bare name becomes a table with that `type`.

    If the key is a `type` whose value changes, returns the former value, or "" if there was none.

    Raises `ConfigError` if the path goes through a value that is not a table.
    """
    *parents, last = override.path
    for depth, key in enumerate(parents, 1):
        inner = table.setdefault(key, {})
        if isinstance(inner, str):
            inner = table[key] = {"type": inner}
        if not isinstance(inner, dict):
            raise ConfigError(f"{override.source}: {'.'.join(override.path[:depth])} is not a table")
        table = inner
    if override.value is None:
        table.pop(last, None)
        return None
    former = str(table.get("type", "")) if last == "type" else override.value
    table[last] = override.value
    return former if former != override.value else None
