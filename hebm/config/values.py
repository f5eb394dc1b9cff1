"""Check that a value fits an annotation and a field's bounds. Nothing is coerced."""

from __future__ import annotations

import math
import re
import reprlib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

import attrs

_WIDEST_INTEGER, _WIDEST_NUMBER = 2**31 - 1, 1e30
"""The largest sizes of numbers in a configuration, unless an option states a higher bound."""
_WORDS: Mapping[Any, tuple[str, str]] = {
    bool: ("true or false", "true or false"),
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    types.NoneType: ("nothing", "nothing"),
}


def check(value: Any, field: attrs.Attribute[Any]) -> str | None:
    """Return a message if `value` does not fit this field, or None. The field's type must be resolved."""
    if isinstance(value, list) and fits(tuple(value), field.type):
        return f"expected a tuple, {show(tuple(value))}, got the list {show(value)}"
    if not fits(value, field.type):
        return f"expected {describe(field.type)}, got {show(value)}"
    return out_of_bounds(value, field.metadata)


def fits(value: Any, annotation: Any) -> bool:
    """Return whether a value has the annotated type. 1 is a float, True is not a number, NaN and ±∞ are not floats."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if is_union(annotation):
        return any(fits(value, argument) for argument in arguments)
    if origin is Literal:
        return any(type(value) is type(argument) and value == argument for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and _fits_tuple(value, arguments)
    if annotation is None:
        return value is None
    if annotation is float:
        return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))
    if annotation is int:
        return _is_integer(value)
    if annotation is str:
        return isinstance(value, str) and _is_text(value)
    return isinstance(value, annotation)


def _fits_tuple(value: tuple[Any, ...], arguments: tuple[Any, ...]) -> bool:
    if is_variadic(arguments):
        return all(fits(item, arguments[0]) for item in value)
    return len(value) == len(arguments) and all(map(fits, value, arguments))


def is_union(annotation: Any) -> bool:
    """Return whether an annotation is `A | B` or `Optional[A]`."""
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def is_variadic(arguments: tuple[Any, ...]) -> bool:
    """Return whether type arguments are those of `tuple[X, ...]`."""
    return len(arguments) == 2 and arguments[1] is ...


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: str) -> bool:
    """Return False for text with lone surrogates (a file name that is not UTF-8), which cannot be written to a file."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def describe(annotation: Any) -> str:
    """Describe an annotation in words for users.

    Example:
        >>> describe(int | tuple[int, ...])
        'an integer or a list of integers'
    """
    if annotation in _WORDS:
        return _WORDS[annotation][0]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if is_union(annotation):
        return " or ".join(describe(argument) for argument in arguments if argument is not types.NoneType)
    if origin is Literal:
        return f"{'one of ' * (len(arguments) > 1)}{', '.join(map(repr, arguments))}"
    if origin is tuple:
        return _describe_tuple(arguments)
    group = getattr(annotation, "group", None)
    return f"a name of {group} or a table with its `type`" if group else "a table"


def _describe_tuple(arguments: tuple[Any, ...]) -> str:
    if not is_variadic(arguments):
        return f"a list of {len(arguments)}: [{', '.join(map(describe, arguments))}]"
    known = _WORDS.get(arguments[0])
    return f"a list of {known[1]}" if known else f"a list, each {describe(arguments[0])}"


def show(value: Any) -> str:
    """Return a short text for a value in a message. It never raises, even for integers that Python cannot print."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return reprlib.repr(value)
    except ValueError:
        return f"a very large {type(value).__name__}"


def out_of_bounds(value: Any, bounds: Mapping[str, Any]) -> str | None:
    """Return a message about a value, or an element of it, outside of the field's bounds; or None."""
    if isinstance(value, tuple):
        return next((c for c in (out_of_bounds(item, bounds) for item in value) if c), None)
    if "choices" in bounds and value is not None and value not in bounds["choices"]:
        return f"expected one of {', '.join(map(repr, bounds['choices']))}, got {show(value)}"
    if "pattern" in bounds and isinstance(value, str) and not re.fullmatch(bounds["pattern"], value):
        return f"{show(value)} is not allowed ({bounds.get('doc', bounds['pattern'])})"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    widest = _WIDEST_INTEGER if isinstance(value, int) else _WIDEST_NUMBER
    if abs(value) > max(widest, bounds.get("high", 0)):
        shown = f"{widest:,}" if isinstance(widest, int) else f"{widest:g}"
        return f"must be at most {shown} in size, got {show(value)}"
    if "low" in bounds and value < bounds["low"]:
        return f"must be at least {bounds['low']}, got {show(value)}"
    if "above" in bounds and value <= bounds["above"]:
        return f"must be more than {bounds['above']}, got {show(value)}"
    if "high" in bounds and value > bounds["high"]:
        return f"must be at most {bounds['high']}, got {show(value)}"
    return None
