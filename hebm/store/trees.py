"""Trees of plain values and tensors ↔ JSON and named tensors: what is rebuilt is equal, in types and order too.

What an imported file holds besides weights is kept so, until it is exported again.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hebm.errors import CheckpointError

_PLAIN = (type(None), bool, int, str)
_PAIRS: dict[str, type] = {"dict": dict, "ordered": OrderedDict}
_ITEMS: dict[str, type] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


def flatten(tree: Any) -> tuple[Any, dict[str, Tensor]]:
    """Write a tree as JSON, every tensor, collection and non-finite float an object with one key; and list its tensors.

    Raises `CheckpointError`, with the path, for a value that is neither plain, a tensor nor a collection of such, and
    for a collection that holds itself.

    Example:
        >>> flatten({"steps": (1, 2.5)})[0]
        {'dict': [['steps', {'tuple': [1, 2.5]}]]}
    """
    tensors: dict[str, Tensor] = {}
    try:
        return _flatten(tree, "", tensors), tensors
    except RecursionError as error:
        raise CheckpointError("a collection in it holds itself, or is nested too deep to be kept; remove it") from error


def _flatten(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if type(value) in _PLAIN or (type(value) is float and math.isfinite(value)):
        return value
    if type(value) is float:
        return {"float": str(value)}
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return {"tensor": name}
    kind = type(value)
    if tag := _tag(kind, _PAIRS):
        return {tag: [[_flatten(k, path, tensors), _flatten(v, f"{path}/{k}", tensors)] for k, v in value.items()]}
    if tag := _tag(kind, _ITEMS):
        return {tag: [_flatten(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]}
    raise CheckpointError(f"{path or 'it'} is a {kind.__module__}.{kind.__qualname__}, which cannot be kept; remove it")


def _tag(kind: type, kinds: Mapping[str, type]) -> str | None:
    return next((tag for tag, known in kinds.items() if known is kind), None)


def rebuild(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Rebuild the tree that `flatten` was given. Raises `CheckpointError` for JSON that it did not write."""
    if type(tree) in (*_PLAIN, float):
        return tree
    try:
        ((tag, content),) = tree.items()
        if tag == "float":
            return float(content)
        if tag == "tensor":
            return tensors[content]
        if tag in _PAIRS:
            return _PAIRS[tag]((rebuild(k, tensors), rebuild(v, tensors)) for k, v in content)
        return _ITEMS[tag](rebuild(item, tensors) for item in content)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"what an import left over is damaged ({error!r}); import the file again") from error
