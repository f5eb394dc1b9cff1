"""The clock that the time of draws is read from."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs
import torch


@attrs.frozen
class Clock:
    """A clock for work on one device.

    Arguments:
        name: what it measures, in words.
        read: returns seconds from any beginning, when all work that was started is done.
    """

    name: str
    read: Callable[[], float]


def clock_of(device: torch.device) -> Clock:
    """Return the clock of a device.

    It is the processor time of this process where the CPU computes with one thread, so that other processes do not
    count; else the time that passes, read after an accelerator has finished.
    """
    if device.type == "cpu":
        threads = torch.get_num_threads()
        if threads == 1:
            return Clock("processor time of one thread", time.process_time)
        return Clock(f"time that passes, with {threads} threads", time.perf_counter)
    accelerator = torch.get_device_module(device)

    def read() -> float:
        accelerator.synchronize()
        return time.perf_counter()

    return Clock(f"time that passes, on {device.type}", read)
