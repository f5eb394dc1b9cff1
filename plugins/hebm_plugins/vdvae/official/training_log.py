"""Read `iter-N-log.jsonl` of the published code: its configuration and the last training step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from hebm.errors import CheckpointError

_LARGEST = 1e30


@attrs.frozen
class TrainingLog:
    """What a log says.

    Arguments:
        settings: the hyper-parameters by their published names.
        step: the last training step; None if it lists none.
    """

    settings: Mapping[str, Any]
    step: int | None

    def text(self, key: str) -> str | None:
        """Return a setting that is a text; None if the log lacks it."""
        value = self.settings.get(key)
        return value if isinstance(value, str) and value else None

    def number(self, key: str) -> float | None:
        """Return a setting that is a number; None if the log lacks it. Raises `CheckpointError` for NaN and ±∞."""
        value = self.settings.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        if not abs(value) <= _LARGEST:
            raise CheckpointError(f"{key} of the log is not a finite number below {_LARGEST:g}")
        return float(value)


def read_log(name: str, text: str) -> TrainingLog:
    """Return what a log says. Raises `CheckpointError` for a line that is not a JSON object.

    Arguments:
        name: the file's name, for errors.
        text: one JSON object per line.
    """
    lines = [_object(name, number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    settings = {str(line.get("key")): line.get("value") for line in lines if line.get("type") == "hparam"}
    steps = [line["step"] for line in lines if line.get("type") == "train_loss" and type(line.get("step")) is int]
    return TrainingLog(settings, max(steps, default=None))


def _object(name: str, number: int, line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CheckpointError(f"{name}:{number}: is not a JSON object, as every line of the published code's log is")
    return found
