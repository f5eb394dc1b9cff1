"""The clock for the time of draws."""

from __future__ import annotations

import time
from collections.abc import Callable

import attrs
import torch


@attrs.frozen
class Clock:
    """A clock for work on one device.

    Arguments:
        name: the measured time, in words.
        read: waits for all started work, and returns seconds since an arbitrary time.
    """

    name: str
    read: Callable[[], float]


def clock_of(device: torch.device) -> Clock:
    """Return the clock of a device.

    On a CPU with one thread it is the processor time of this process, so other processes do not count. Otherwise it is
    the elapsed time, read after an accelerator has finished.
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
