"""Check JSON against type annotations. Errors name the key that does not fit.

    shaped(str, value)                     a text
    shaped(Mapping[str, float], value)     a table of numbers
    shaped(Failure, value)                 a table with the fields of an attrs class; defaults may be missing

Numbers must be finite, true and false are not numbers, and whole numbers have no decimal point. A class with
`MORE_KEYS = True` allows unknown keys; for others they are an error.
"""

from __future__ import annotations

import functools
import json
import math
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints, is_typeddict

import attrs

from hebm.errors import CheckpointError, HebmError
from hebm.store.durable import read_file, reporting

_LISTS: Mapping[Any, type] = {list: list, tuple: tuple, Sequence: tuple}
_NAMES: Mapping[Any, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false", None: "null"}
_SHOWN = 60


class ShapeError(ValueError):
    """JSON that does not fit the annotation. The message starts with the key."""


@contextmanager
def damaged(path: Path, fix: str) -> Iterator[None]:
    """Turn a `ShapeError` in the context into a `CheckpointError` that names the file.

    Arguments:
        path: the path of the file.
        fix: the advice for the user.
    """
    try:
        yield
    except ShapeError as error:
        raise CheckpointError(f"{path} is damaged, or from another version of hebm: {error}; {fix}") from error


def read_json(path: Path, fix: str) -> Any:
    """Read a JSON file. Raises `CheckpointError` with the path if it cannot be read or is not JSON."""
    with reporting(f"read {path}"):
        data = read_file(path)
    with damaged(path, fix):
        return parsed(data)


def parsed(data: bytes | str) -> Any:
    """Parse JSON. Raises `ShapeError` for anything else, including NaN and infinities."""
    try:
        return json.loads(data, parse_constant=_refused)
    except RecursionError as error:
        raise ShapeError("it is nested too deep") from error
    except ValueError as error:
        raise ShapeError(f"it is not JSON ({error})") from error


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def shaped(kind: Any, value: Any, key: str = "") -> Any:
    """Return a parsed JSON value converted to an annotated type. Raises `ShapeError` with the key.

    Arguments:
        kind: the type: text, number, bool, None, Any, a Literal, a union, a list, tuple or mapping of these, a
            TypedDict or an attrs class.
        value: the value from JSON.
        key: the place of the value in its file, such as "measurements[3]".

    Example:
        >>> shaped(tuple[float, ...], [1, 2.5])
        (1.0, 2.5)
        >>> shaped(Mapping[str, float], {"loss": "x"}, "counts")
        Traceback (most recent call last):
        hebm.store.json_shapes.ShapeError: counts.loss must be a number, not 'x'
    """
    if kind is Any:
        return value
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _any_of(get_args(kind), value, key)
    if origin is Literal:
        return value if value in get_args(kind) and not isinstance(value, (list, dict)) else _wrong(kind, value, key)
    if (origin or kind) in _LISTS:
        return _list(kind, value, key)
    if (origin or kind) in (dict, Mapping):
        return _mapping(kind, value, key)
    if attrs.has(kind):
        return _instance(kind, value, key)
    if is_typeddict(kind):
        return _fields(get_type_hints(kind), set(kind.__required_keys__), value, key)
    return _scalar(kind, value, key)


def _scalar(kind: Any, value: Any, key: str) -> Any:
    if kind in (None, type(None)):
        return None if value is None else _wrong(None, value, key)
    if kind is float and type(value) in (int, float):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        return number if math.isfinite(number) else _wrong(kind, value, key)
    return value if type(value) is kind else _wrong(kind, value, key)


def _any_of(kinds: Sequence[Any], value: Any, key: str) -> Any:
    fitting = [kind for kind in kinds if not _is_plain(kind) and _may_be(kind, value)]
    if len(fitting) == 1:
        return shaped(fitting[0], value, key)  # so that the error is about the inner value
    for kind in kinds:
        try:
            return shaped(kind, value, key)
        except ShapeError:
            continue
    what = " or ".join(map(_described, kinds))
    raise ShapeError(f"{key or 'it'} must be {what}, not {_seen(value)}")


def _is_plain(kind: Any) -> bool:
    return kind in (*_NAMES, type(None))


def _may_be(kind: Any, value: Any) -> bool:
    """Return whether value and kind are both lists or both tables."""
    is_list = (get_origin(kind) or kind) in _LISTS
    return isinstance(value, list) if is_list else isinstance(value, dict) and get_origin(kind) is not Literal


def _list(kind: Any, value: Any, key: str) -> Any:
    if not isinstance(value, list):
        _wrong(kind, value, key)
    items: tuple[Any, ...] = get_args(kind) or (Any,)
    if get_origin(kind) is tuple and items[-1] is not ...:
        return _of_length(items, value, key)
    item = items[0]
    return _LISTS[get_origin(kind) or kind](shaped(item, one, f"{key}[{i}]") for i, one in enumerate(value))


def _of_length(kinds: Sequence[Any], value: list[Any], key: str) -> tuple[Any, ...]:
    if len(value) != len(kinds):
        raise ShapeError(f"{key or 'it'} must have {len(kinds)} entries, not {len(value)}")
    return tuple(shaped(kind, one, f"{key}[{i}]") for i, (kind, one) in enumerate(zip(kinds, value, strict=True)))


def _mapping(kind: Any, value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _wrong(kind, value, key)
    _, item = get_args(kind) or (str, Any)
    return {name: shaped(item, one, below(key, name)) for name, one in value.items()}


# ---------------------------------------------------------------- tables with fields


def _instance(cls: Any, value: Any, key: str) -> Any:
    hints, required, aliases = _fields_of(cls)
    fields = _fields(hints, required, value, key, getattr(cls, "MORE_KEYS", False))
    try:
        return cls(**{aliases[name]: one for name, one in fields.items()})
    except (HebmError, ValueError) as error:
        raise ShapeError(f"{key or 'it'}: {error}") from error


@functools.cache
def _fields_of(cls: Any) -> tuple[Mapping[str, Any], frozenset[str], Mapping[str, str]]:
    """Return the argument types of a class by field, its required fields, and its argument names by field.

    The type of a field with a converter is the type that the converter accepts.
    """
    found = [field for field in attrs.fields(cls) if field.init]
    hints = get_type_hints(cls.__init__, vars(sys.modules[cls.__module__]))
    required = frozenset(field.name for field in found if field.default is attrs.NOTHING)
    aliases = {field.name: field.alias or field.name for field in found}
    return {name: hints[alias] for name, alias in aliases.items()}, required, aliases


def _fields(
    hints: Mapping[str, Any], required: set[str] | frozenset[str], value: Any, key: str, more: bool = False
) -> dict[str, Any]:
    if not isinstance(value, dict):
        _wrong(dict, value, key)
    for name in hints:
        if name in required and name not in value:
            raise ShapeError(f"{below(key, name)} is missing")
    for name in value:
        if name not in hints and not more:
            raise ShapeError(f"{below(key, name)} is an unknown key")
    return {name: shaped(kind, value[name], below(key, name)) for name, kind in hints.items() if name in value}


# ---------------------------------------------------------------- messages


def below(key: str, name: str) -> str:
    """Return the key of an entry of a table."""
    name = name if name and name.replace("_", "a").replace("-", "a").isalnum() else repr(_cut(name))
    return f"{key}.{name}" if key else name


def _wrong(kind: Any, value: Any, key: str) -> NoReturn:
    raise ShapeError(f"{key or 'it'} must be {_described(kind)}, not {_seen(value)}")


def _described(kind: Any) -> str:
    """Return the name of a type in terms of JSON.

    Example:
        >>> _described(str | None), _described(Literal["lower", "higher"]), _described(list[int])
        ('text or null', "'lower' or 'higher'", 'a list')
    """
    origin: Any = get_origin(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_described(one) for one in get_args(kind)))
    if origin is Literal:
        return " or ".join(map(repr, get_args(kind)))
    kind = None if kind is type(None) else kind
    return _NAMES[kind] if kind in _NAMES else ("a list" if (origin or kind) in _LISTS else "a table")


def _seen(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return "a table" if isinstance(value, dict) else "a list"
    return json.dumps(value) if value is None or isinstance(value, bool) else _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
