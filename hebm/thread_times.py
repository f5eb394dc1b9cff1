"""Measure which number of CPU threads trains an experiment fastest.

Small models are often faster with one thread, because starting and joining threads costs more than it saves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import torch
from accelerate import Accelerator

from hebm.estimates import StepTimes
from hebm.pipeline import Assembly
from hebm.threads import machine_threads
from hebm.training.listeners import Listener
from hebm.trials import copied, timed_steps

_GAIN = 1.05
"""More threads are chosen if training is at least this many times as fast."""


@attrs.frozen
class ThreadTimes:
    """The estimated seconds of training with several numbers of threads.

    Arguments:
        seconds: the seconds of all training steps by number of threads.
    """

    seconds: Mapping[int, float]

    @property
    def best(self) -> int:
        """The smallest number of threads that is about as fast as the fastest."""
        fastest = min(self.seconds.values())
        return min(threads for threads, seconds in self.seconds.items() if seconds <= _GAIN * fastest)

    def to_json(self) -> dict[str, Any]:
        """Return the best number, and the seconds by number of threads, as JSON values."""
        return {"best": self.best, "seconds": {str(n): round(seconds, 1) for n, seconds in self.seconds.items()}}

    def __str__(self) -> str:
        best, others = self.best, sorted(set(self.seconds) - {self.best})
        ratios = [f"{self.seconds[n] / self.seconds[best]:.2f} times as fast as with {_count(n)}" for n in others]
        return f"training with {_count(best)} is {' and '.join(ratios)}"


def _count(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def measured_threads(
    assembly: Assembly, accelerator: Accelerator, known: StepTimes | None = None
) -> ThreadTimes | None:
    """Time a few training steps with one thread and with all; return None if only one number is possible.

    The model of the assembly does not change. Several numbers are possible only on a CPU with several threads, and only
    for a single process.

    Arguments:
        assembly: the experiment to train, with its initial weights.
        accelerator: devices and precision.
        known: times that were already measured with the present number of threads.
    """
    present = torch.get_num_threads()
    counts = {1, machine_threads(), present}
    if accelerator.device.type != "cpu" or accelerator.num_processes > 1 or len(counts) == 1:
        return None
    found = {} if known is None else {present: known.quickest_seconds}
    try:
        for threads in sorted(counts - set(found)):
            torch.set_num_threads(threads)
            found[threads] = timed_steps(copied(assembly), accelerator, Listener()).quickest_seconds
    finally:
        torch.set_num_threads(present)
    return ThreadTimes(dict(sorted(found.items())))
