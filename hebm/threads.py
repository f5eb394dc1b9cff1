"""Set the number of CPU threads of this process, `run.threads`."""

from __future__ import annotations

import functools

import torch

AUTO = "auto"
"""The value of `run.threads` with which a run measures the number itself when it starts."""


@functools.cache
def machine_threads() -> int:
    """Return the number of threads that torch used before this process changed it."""
    return torch.get_num_threads()


def use_threads(wanted: int | str | None, recorded: int | None = None) -> None:
    """Set the number of threads of this process.

    Arguments:
        wanted: `run.threads`; None changes nothing.
        recorded: the number that the run recorded when it started, used for "auto".
    """
    machine_threads()  # the number before the change
    count = recorded if wanted == AUTO else wanted
    if isinstance(count, int):
        torch.set_num_threads(count)
