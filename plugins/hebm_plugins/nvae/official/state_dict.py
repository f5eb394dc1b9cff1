"""Check, convert and assemble the state dict of the published code: keys, order and aliases."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hebm.errors import CheckpointError
from hebm.published_weights import misfits
from hebm_plugins.nvae.backbone import NVAEBackbone
from hebm_plugins.nvae.official.names import ALIAS, alias_of, aliased

_COUNT = ".num_batches_tracked"


def check_state(state: Mapping[str, Any], backbone: NVAEBackbone, names: Mapping[str, str]) -> None:
    """Raise `CheckpointError` with all names that are missing or surplus, or whose tensors do not fit the model."""
    own = backbone.state_dict()
    aliases = {key for key, value in state.items() if str(key).endswith(ALIAS) and isinstance(value, Tensor)}
    found = {str(key): value for key, value in state.items() if key not in aliases}
    said = misfits(found, {theirs: own[ours] for ours, theirs in names.items()})
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
    return isinstance(value, Tensor) and value.dtype == torch.float32 and value.layout == torch.strided


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
