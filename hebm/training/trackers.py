"""Experiment trackers of accelerate, such as tensorboard, as a listener."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator

from hebm.training.listeners import Listener


class Trackers(Listener):
    """Passes each line of metrics to the trackers that the run names.

    Arguments:
        accelerator: was made with the trackers.
        name: of the experiment.
    """

    def __init__(self, accelerator: Accelerator, name: str) -> None:
        self.accelerator = accelerator
        accelerator.init_trackers(name)

    def logged(self, record: Mapping[str, Any]) -> None:
        """Pass on the numbers of a line."""
        numbers = {key: value for key, value in record.items() if isinstance(value, (int, float))}
        self.accelerator.log(numbers, step=record["total_step"])

    def ended(self) -> None:
        """Let the trackers write what they hold."""
        for tracker in self.accelerator.trackers:
            tracker.finish()
