"""Compare contents of checkpoints exactly, find their weights, and damage them."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

Path = tuple[Any, ...]
"""The keys, positions and attribute names on the path to a value."""

REPLACEMENTS: tuple[Any, ...] = (None, -7, "text", {})


def difference(a: Any, b: Any, where: str = "") -> str | None:
    """Return the first difference of two contents in type, order or value, with its place; None if they are equal."""
    place = where or "the content"
    if type(a) is not type(b):
        return f"{place}: {type(a).__name__} became {type(b).__name__}"
    if isinstance(a, Tensor):
        same = a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())
        return None if same else f"{place}: a different tensor"
    if isinstance(a, Mapping):
        if list(a) != list(b):
            return f"{place}: different keys or order"
        return _first(difference(a[key], b[key], f"{where}/{key}") for key in a)
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return f"{place}: {len(a)} items became {len(b)}"
        return _first(difference(x, y, f"{where}/{i}") for i, (x, y) in enumerate(zip(a, b, strict=True)))
    if hasattr(a, "__dict__") and not isinstance(a, type):
        return difference(vars(a), vars(b), where)
    return None if a == b or (a != a and b != b) else f"{place}: {a!r} became {b!r}"


def _first(found: Iterator[str | None]) -> str | None:
    return next((item for item in found if item is not None), None)


def tensors_in(content: Any, path: Path = ()) -> list[tuple[Path, Mapping[Any, Tensor]]]:
    """Return all mappings that contain only tensors, with their paths."""
    if not isinstance(content, Mapping):
        return []
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return [(path, content)]
    return [found for key, value in content.items() for found in tensors_in(value, (*path, key))]


def replaced(content: Any, path: Path, value: Any) -> Any:
    """Return a content with another value at a path of keys. All other values are shared."""
    if not path:
        return value
    return type(content)({**content, path[0]: replaced(content[path[0]], path[1:], value)})


def altered(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield contents that lack a top-level key or have another value under it, with a description of the damage."""
    if not isinstance(content, Mapping):
        return
    for key in content:
        yield f"a content without {key!r}", {k: v for k, v in content.items() if k != key}
        for value in REPLACEMENTS:
            yield f"{value!r} as {key!r}", {**content, key: value}
    for key, value in content.items():
        yield from ((f"{key!r}: {what}", {**content, key: other}) for what, other in _attributes_altered(value))


def _attributes_altered(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield copies of an object that lack one of its attributes or have another value in it."""
    if isinstance(value, (Tensor, type)) or not isinstance(getattr(value, "__dict__", None), dict):
        return
    if isinstance(value, (Mapping, list, tuple)):
        return
    for name in vars(value):
        twin = copy.copy(value)
        setattr(twin, name, "text")
        yield f"'text' as {name}", twin
