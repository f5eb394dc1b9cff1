"""Convert trees of plain values and tensors to JSON and named tensors and back, with equal types and order.

This stores the content of an imported file besides weights until it is exported again.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hebm.errors import CheckpointError

_PLAIN = (type(None), bool, int, str)
_PAIRS: dict[str, type] = {"dict": dict, "ordered": OrderedDict}
MOST = 10_000_000
"""The maximum number of values and collections in a tree. A shared collection counts each time."""
_ITEMS: dict[str, type] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


def flatten(tree: Any) -> tuple[Any, dict[str, Tensor]]:
    """Return a tree as JSON, with tensors, collections and non-finite floats as objects with one key, and its tensors.

    Raises `CheckpointError` with the path for a value that is not plain, not a plain CPU tensor and not a collection of
    these, for a collection that contains itself, and for a tree of more than `MOST` values.

    Example:
        >>> flatten({"steps": (1, 2.5)})[0]
        {'dict': [['steps', {'tuple': [1, 2.5]}]]}
    """
    flattening = _Flattening()
    try:
        return flattening.of(tree, ""), flattening.tensors
    except RecursionError as error:
        raise CheckpointError(
            "a collection in it contains itself, or is nested too deeply to be stored; remove it"
        ) from error


class _Flattening:
    """The state of converting a tree to JSON.

    Attributes:
        tensors: the tensors by name; a tensor in several places appears once.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[int, str] = {}
        self._count = 0

    def of(self, value: Any, path: str) -> Any:
        self._count += 1
        if self._count > MOST:
            raise CheckpointError(f"it has more than {MOST:,} values, the most that can be stored; remove {path}")
        if type(value) in _PLAIN or (type(value) is float and math.isfinite(value)):
            return value
        if type(value) is float:
            return {"float": str(value)}
        if isinstance(value, Tensor):
            return {"tensor": self._name(value, path)}
        kind = type(value)
        if tag := _tag(kind, _PAIRS):
            return {tag: [[self.of(k, path), self.of(v, f"{path}/{k}")] for k, v in value.items()]}
        if tag := _tag(kind, _ITEMS):
            return {tag: [self.of(item, f"{path}/{i}") for i, item in enumerate(value)]}
        raise _unkept(path, f"{kind.__module__}.{kind.__qualname__}")

    def _name(self, tensor: Tensor, path: str) -> str:
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
            raise _unkept(path, f"{tensor.layout} tensor on {tensor.device}")
        name = self._names.setdefault(id(tensor), str(len(self._names)))
        self.tensors[name] = tensor
        return name


def _unkept(path: str, what: str) -> CheckpointError:
    return CheckpointError(f"{path or 'it'} is a {what}, which cannot be stored; remove it")


def _tag(kind: type, kinds: Mapping[str, type]) -> str | None:
    return next((tag for tag, known in kinds.items() if known is kind), None)


def rebuild(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the tree that `flatten` converted. Raises `CheckpointError` for JSON that it did not write."""
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
        raise CheckpointError(
            f"the stored content of an imported file is damaged ({error!r}); import the file again"
        ) from error
