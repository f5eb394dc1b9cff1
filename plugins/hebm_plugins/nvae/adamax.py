"""Convert the state of the published optimiser, by parameter index, to moments by parameter name, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_MOMENTS = ("exp_avg", "exp_inf")


def moments_of(optimizer: Any, parameters: Sequence[str], module: nn.Module) -> tuple[dict[str, Tensor], Any]:
    """Split a state dict of Adamax into moments by "<parameter>/<moment>" and the state dict with None in their place.

    A state dict of any other form is returned unchanged, with no moments.

    Arguments:
        optimizer: the state dict, as read from the file.
        parameters: our parameter names, in the order of the indices of the file.
        module: the module of these parameters; moments must have their shapes.
    """
    state = optimizer.get("state") if isinstance(optimizer, dict) else None
    if not isinstance(state, dict) or not all(_fits(key, state[key], parameters, module) for key in state):
        return {}, optimizer
    moments: dict[str, Tensor] = {}
    for index, entry in state.items():
        name = parameters[index]
        moments[f"{name}/step"] = torch.tensor(float(entry["step"]))
        moments |= {f"{name}/{key}": entry[key] for key in _MOMENTS}
    emptied = {index: {key: None if key in _MOMENTS else entry[key] for key in entry} for index, entry in state.items()}
    return moments, {**optimizer, "state": emptied}


def _fits(index: Any, entry: Any, parameters: Sequence[str], module: nn.Module) -> bool:
    if type(index) is not int or not 0 <= index < len(parameters) or not isinstance(entry, dict):
        return False
    if set(entry) != {"step", *_MOMENTS} or not _is_count(entry["step"]):
        return False
    shape = module.get_parameter(parameters[index]).shape
    return all(isinstance(entry[key], Tensor) and entry[key].shape == shape for key in _MOMENTS)


def _is_count(step: Any) -> bool:
    return type(step) in (int, float) or (isinstance(step, Tensor) and step.numel() == 1)


def with_moments(optimizer: Any, moments: Mapping[str, Tensor], parameters: Sequence[str], trained_on: bool) -> Any:
    """Put moments back into the state dict of `moments_of`.

    Arguments:
        optimizer: the state dict, with None in place of the moments.
        moments: the moments by "<parameter>/<moment>".
        parameters: our parameter names, in the order of the indices of the file.
        trained_on: whether the run was trained further. If so, its moments replace the whole state of the file.
    """
    if not isinstance(optimizer, dict) or not isinstance(optimizer.get("state"), dict):
        return optimizer
    if trained_on:
        optimizer = _today(optimizer, moments, parameters)
    filled = {index: _filled(index, entry, moments, parameters) for index, entry in optimizer["state"].items()}
    return {**optimizer, "state": filled}


def _today(optimizer: Mapping[str, Any], moments: Mapping[str, Tensor], parameters: Sequence[str]) -> dict[str, Any]:
    """Return the state dict for the run's current moments, with None in their place."""
    whole = [n for n in parameters if all(f"{n}/{key}" in moments for key in ("step", *_MOMENTS))]
    index = {name: i for i, name in enumerate(parameters)}
    state = {index[n]: {"step": int(moments[f"{n}/step"]), **dict.fromkeys(_MOMENTS)} for n in whole}
    groups = [{**group, "params": list(range(len(parameters)))} for group in optimizer["param_groups"][:1]]
    return {**optimizer, "state": state, "param_groups": groups}


def _filled(index: Any, entry: Any, moments: Mapping[str, Tensor], parameters: Sequence[str]) -> Any:
    if not isinstance(entry, dict) or any(entry.get(key, ...) is not None for key in _MOMENTS):
        return entry
    return {k: moments[f"{parameters[index]}/{k}"] if k in _MOMENTS else value for k, value in entry.items()}
