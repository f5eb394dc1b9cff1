"""Whether a published file has averaged weights, and which weights a run gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def of_averages(content: Mapping[Any, Any]) -> str:
    """Return a note that says which weights are used: those of the last step, as the published code does."""
    found = [repr(key) for key in content if isinstance(key, str) and _is_average(key)]
    optimizer = content.get("optimizer")
    states = optimizer.get("state") if isinstance(optimizer, dict) else None
    entries = states.values() if isinstance(states, dict) else ()
    if any(isinstance(key, str) and _is_average(key) for entry in entries if isinstance(entry, dict) for key in entry):
        found.append("the optimizer's state")
    if found:
        return f"{' and '.join(found)} has averaged weights: kept for export; the run has state_dict, the last step's"
    return "the file has no averaged weights (EMA): the run has state_dict, the last step's"


def _is_average(key: str) -> bool:
    return "ema" in key.lower().split("_") or "average" in key.lower()
