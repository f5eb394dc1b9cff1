"""Detect averaged weights in a published file, and say which weights the run gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def of_averages(content: Mapping[Any, Any]) -> str:
    """Return a note on averaged weights. The run gets the weights of the last step, as in the published code."""
    found = [repr(key) for key in content if isinstance(key, str) and _is_average(key)]
    optimizer = content.get("optimizer")
    states = optimizer.get("state") if isinstance(optimizer, dict) else None
    entries = states.values() if isinstance(states, dict) else ()
    if any(isinstance(key, str) and _is_average(key) for entry in entries if isinstance(entry, dict) for key in entry):
        found.append("the optimizer's state")
    if found:
        return f"{' and '.join(found)} has averaged weights, kept for export; the run uses state_dict of the last step"
    return "the file has no averaged weights (EMA); the run uses state_dict of the last step"


def _is_average(key: str) -> bool:
    return "ema" in key.lower().split("_") or "average" in key.lower()
