"""Check, convert and assemble the state dict of the published code: keys, order and aliases."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hebm.errors import CheckpointError
from hebm_plugins.nvae.backbone import NVAEBackbone
from hebm_plugins.nvae.official.names import ALIAS, alias_of, aliased

_SHOWN = 20
_COUNT = ".num_batches_tracked"


def check_state(state: Mapping[str, Any], backbone: NVAEBackbone, names: Mapping[str, str]) -> None:
    """Raise `CheckpointError` with all names that are missing or surplus, or whose tensors do not fit the model."""
    own = backbone.state_dict()
    found = {str(key): value for key, value in state.items() if not str(key).endswith(ALIAS)}
    wanted = {theirs: own[ours] for ours, theirs in names.items()}
    complaints = {
        "missing": [name for name in wanted if name not in found],
        "surplus": [name for name in found if name not in wanted],
        "not a tensor": [name for name, value in state.items() if not isinstance(value, Tensor)],
    }
    pairs = [(n, found[n], w) for n, w in wanted.items() if isinstance(found.get(n), Tensor)]
    complaints["other shape"] = [
        f"{n} {tuple(value.shape)}, expected {tuple(w.shape)}" for n, value, w in pairs if value.shape != w.shape
    ]
    complaints["not finite"] = [n for n, value, _ in pairs if _broken(value)]
    kinds = [(n, _kind(value.dtype, value), _kind(w.dtype)) for n, value, w in pairs]
    complaints["other type"] = [f"{n} {kind}, expected {want}" for n, kind, want in kinds if kind != want]
    said = "".join(f"\n  {what}: {listed(which)}" for what, which in complaints.items() if which)
    if said:
        raise CheckpointError(f"the weights do not fit the model that the checkpoint's args describe:{said}")


def with_whole_counts(state: OrderedDict[str, Any]) -> tuple[OrderedDict[str, Any], list[str]]:
    """Convert counts of batches back to integers, in files whose tensors were all converted to half precision.

    A count that overflowed becomes 0. No model here uses these counts.
    """
    counts = [key for key, value in state.items() if key.endswith(_COUNT) and _is_float(value)]
    if not counts:
        return state, []
    whole = {key: state[key].nan_to_num(0.0, 0.0, 0.0).round().long() for key in counts}
    lost = sum(not bool(state[key].isfinite().all()) for key in counts)
    note = f"{len(counts):,} counts of batches (num_batches_tracked) were floats; converted to integers"
    with_counts = copy.copy(state)  # keeps _metadata, the versions of modules
    with_counts.update(whole)
    return with_counts, [f"{note}, {lost:,} infinite to 0" if lost else note]


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and _kind(value.dtype, value) == str(torch.float32)


def _broken(value: Tensor) -> bool:
    """Return whether a plain tensor of floats holds a NaN or an infinity."""
    plain = value.layout == torch.strided and value.device.type == "cpu" and value.is_floating_point()
    return plain and not bool(value.isfinite().all())


def _kind(dtype: torch.dtype, value: Tensor | None = None) -> str:
    """Return the element type, with layout and device unless the tensor is dense and on the CPU."""
    if value is None or (value.layout == torch.strided and value.device.type == "cpu"):
        return str(dtype)
    return f"{dtype} {value.layout} on {value.device}"


def listed(names: list[Any]) -> str:
    """Join the first twenty names for a message, with the number of the others."""
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(str, names[:_SHOWN])) + more


def parameters_in(state: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """Return our names of the parameters in the order of the file, by which the optimiser numbers them."""
    ours = {theirs: own for own, theirs in names.items()}
    buffers = (".running_mean", ".running_var", _COUNT)
    return [ours[key] for key in state if not key.endswith((ALIAS, *buffers))]


def own_aliases(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the aliases that differ from the weight, which occur in old files."""
    aliases = [key for key in state if key.endswith(ALIAS)]
    kernels = {key: state.get(key.removesuffix(ALIAS) + ".weight") for key in aliases}
    return {key: state[key] for key, kernel in kernels.items() if kernel is None or not _same(state[key], kernel)}


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)


def keys_of(names: Mapping[str, str], backbone: NVAEBackbone) -> list[str]:
    """Return the keys of the published code in its order, including aliases."""
    return [
        key
        for ours, theirs in names.items()
        for key in ([theirs, alias_of(theirs)] if aliased(backbone, ours) else [theirs])
    ]


def assembled(tensors: Mapping[str, Tensor], left: Mapping[str, Any]) -> OrderedDict[str, Tensor]:
    """Assemble the published state dict from tensors by published name.

    Arguments:
        tensors: all tensors except aliases.
        left: the leftovers of the file: its ordered keys, the aliases that differ from the weight, and the module
            versions.
    """
    state = OrderedDict(
        (key, left["aliases"][key] if key in left["aliases"] else tensors[key.removesuffix(ALIAS) + ".weight"])
        if key.endswith(ALIAS)
        else (key, tensors[key])
        for key in left["keys"]
    )
    if left.get("metadata") is not None:
        state._metadata = left["metadata"]  # type: ignore[attr-defined]
    return state
