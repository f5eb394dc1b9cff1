"""Convert the optimiser's file of the published code (apex's FusedAdam or torch's AdamW) to moments by parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hebm.errors import CheckpointError
from hebm.published_weights import listed, number

_MOMENTS = ("exp_avg", "exp_avg_sq")


def is_optimizer(content: Any) -> bool:
    """Return whether a file's content has the form of an optimiser's state."""
    return isinstance(content, dict) and isinstance(content.get("state"), dict) and bool(_groups(content))


def _groups(content: Mapping[Any, Any]) -> list[Mapping[str, Any]]:
    groups = content.get("param_groups")
    valid = isinstance(groups, list) and all(isinstance(group, dict) for group in groups)
    return groups if valid else []  # type: ignore[return-value]


def settings_of(optimizer: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of the first group, which are those of all parameters."""
    return _groups(optimizer)[0]


def step_of(optimizer: Mapping[str, Any]) -> int | None:
    """Return the number of updates, which apex keeps in the group and torch with each parameter; None if unknown."""
    entries = [entry for entry in optimizer["state"].values() if isinstance(entry, dict)]
    steps = [number(place.get("step")) for place in (settings_of(optimizer), *entries)]
    return max((int(step) for step in steps if type(step) in (int, float) and 0 <= step < 2**31), default=None)


def moments_of(optimizer: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the moments by `"<parameter>/<moment>"`.

    A parameter's number is its place in the groups' lists `params`, which are in the order of the weights. Older
    versions of torch wrote other identifiers into these lists.

    Arguments:
        optimizer: the content of the optimiser's file.
        weights: the weights in the order of their file.

    Raises `CheckpointError` if the optimiser is not one of these weights.
    """
    identifiers = _identifiers(optimizer)
    if len(identifiers) != len(weights):
        raise CheckpointError(
            f"the optimiser has {len(identifiers)} parameters, but the weights have {len(weights)}; give the file of "
            "the same model"
        )
    state, updates = optimizer["state"], step_of(optimizer)
    moments: dict[str, Tensor] = {}
    wrong = []
    for identifier, (name, weight) in zip(identifiers, weights.items(), strict=True):
        entry = state.get(identifier)
        if entry is None:
            continue
        if updates is None or not _fits(entry, weight):
            wrong.append(name)
            continue
        own = number(entry.get("step", updates))
        moments[f"{name}/step"] = torch.tensor(float(own))
        moments |= {f"{name}/{key}": entry[key].to(torch.float32) for key in _MOMENTS}
    if wrong:
        raise CheckpointError(f"the optimiser's moments have other names or shapes than the weights: {listed(wrong)}")
    return moments


def _identifiers(optimizer: Mapping[str, Any]) -> list[int]:
    lists = [group.get("params") for group in _groups(optimizer)]
    found = [identifier for each in lists if isinstance(each, (list, tuple)) for identifier in each]
    return [identifier for identifier in found if type(identifier) is int]


def _fits(entry: Any, weight: Tensor) -> bool:
    if not isinstance(entry, dict) or type(number(entry.get("step", 0))) not in (int, float):
        return False
    return all(isinstance(entry.get(key), Tensor) and entry[key].shape == weight.shape for key in _MOMENTS)
