"""Normalise published weights for a format: remove wrappers from names, convert to single precision, compare shapes.

A format calls these functions in `read`, and returns the notes in `ConvertedCheckpoint.notes`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

WRAPPERS: dict[str, str] = {
    "module": "DataParallel or DDP",
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
}
"""Parts that wrappers of modules add to names, and the wrappers that add them."""
_SHOWN = 20


def unwrapped(state: Mapping[Any, Any]) -> tuple[OrderedDict[str, Any], list[str]]:
    """Return a state dict with wrapper parts removed from its names, in the same order, and a note for each part.

    Example:
        >>> unwrapped({"module._orig_mod.stem.bias": 0})[0]
        OrderedDict([('stem.bias', 0)])

    A name is not changed if the state dict also has the shorter name.
    """
    names = [str(name) for name in state]
    taken, plain = set(names), OrderedDict[str, Any]()
    counts = dict.fromkeys(WRAPPERS, 0)
    for name, value in zip(names, state.values(), strict=True):
        bare = _bare(name)
        if bare == name or bare in taken:
            plain[name] = value
            continue
        taken.add(bare)
        plain[bare] = value
        for part in WRAPPERS:
            counts[part] += part in name.split(".")
    versions = getattr(state, "_metadata", None)
    if isinstance(versions, dict):  # the version of the outermost module wins
        own = {_bare(str(name)): versions[name] for name in reversed(versions)}
        plain._metadata = OrderedDict(reversed(own.items()))  # type: ignore[attr-defined]
    notes = [_note(part, count, len(state)) for part, count in counts.items() if count]
    return plain, notes


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _note(part: str, count: int, of: int) -> str:
    return f"{count:,} of {of:,} names of weights have the part {part!r} of {WRAPPERS[part]}, which was removed"


def in_single_precision(state: Mapping[str, Any]) -> tuple[OrderedDict[str, Any], list[str]]:
    """Return a state dict with floating-point tensors as float32, and a note for each other precision.

    Names that share a tensor share the converted tensor.
    """
    found: dict[torch.dtype, int] = {}
    done: dict[tuple[Any, ...], Tensor] = {}
    single = OrderedDict[str, Any]()
    for name, value in state.items():
        if not _converts(value):
            single[name] = value
            continue
        found[value.dtype] = found.get(value.dtype, 0) + 1
        place = (value.data_ptr(), value.dtype, value.shape, value.stride())
        single[name] = done.setdefault(place, value.to(torch.float32))
    if hasattr(state, "_metadata"):
        single._metadata = state._metadata  # type: ignore[attr-defined]
    return single, [
        f"{_all_or(count, state)} are {str(dtype).removeprefix('torch.')}: converted to float32"
        for dtype, count in found.items()
    ]


def _converts(value: Any) -> bool:
    plain = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    return plain and value.is_floating_point() and value.dtype != torch.float32


def _all_or(count: int, state: Mapping[str, Any]) -> str:
    floating = sum(isinstance(value, Tensor) and value.is_floating_point() for value in state.values())
    return "weights" if count == floating else f"{count:,} of {floating:,} weights"


def misfits(state: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> str:
    """Return lines about all names that are missing or surplus, and all tensors that do not fit; "" if all fit.

    Arguments:
        state: the values of a file by name.
        wanted: a tensor of the expected shape and element type for each name, for example on the meta device.
    """
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    pairs = [(name, tensors[name], like) for name, like in wanted.items() if name in tensors]
    kinds = [(name, _kind(value.dtype, value), str(like.dtype)) for name, value, like in pairs]
    complaints = {
        "missing": [name for name in wanted if name not in state],
        "surplus": [name for name in tensors if name not in wanted],
        "not a tensor": [name for name in state if name not in tensors],
        "other shape": [
            f"{name} {tuple(value.shape)}, expected {tuple(like.shape)}"
            for name, value, like in pairs
            if value.shape != like.shape
        ],
        "not finite": [name for name, value, _ in pairs if _broken(value)],
        "other type": [f"{name} {kind}, expected {want}" for name, kind, want in kinds if kind != want],
    }
    return "".join(f"\n  {what}: {listed(which)}" for what, which in complaints.items() if which)


def _broken(value: Tensor) -> bool:
    """Return whether a plain tensor of floats holds a NaN or an infinity."""
    plain = value.layout == torch.strided and value.device.type == "cpu" and value.is_floating_point()
    return plain and not bool(value.isfinite().all())


def _kind(dtype: torch.dtype, value: Tensor) -> str:
    """Return the element type, with layout and device unless the tensor is dense and on the CPU."""
    if value.layout == torch.strided and value.device.type == "cpu":
        return str(dtype)
    return f"{dtype} {value.layout} on {value.device}"


def listed(names: Sequence[Any]) -> str:
    """Join the first twenty names for a message, with the number of the others."""
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(str, names[:_SHOWN])) + more


def number(value: Any) -> Any:
    """Return a tensor of one element as a number, and anything else unchanged."""
    if isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu":
        return value.item() if value.numel() == 1 else value
    return value
