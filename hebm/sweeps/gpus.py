"""Assign GPUs to several processes on one machine."""

from __future__ import annotations

import os
from collections.abc import Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Environment variable with the GPUs that a process may use."""


def gpu_of(slot: int, gpus: Sequence[str]) -> str | None:
    """Return the GPU of the process in a slot; None unless several GPUs are available.

    Each slot gets a separate GPU if there are enough; otherwise slots share GPUs in turn.

    Arguments:
        slot: number of the slot from 0, unique among running processes.
        gpus: the available GPUs.

    Example:
        >>> [gpu_of(slot, ("2", "5")) for slot in range(4)], gpu_of(1, ("2",)), gpu_of(1, ())
        (['2', '5', '2', '5'], None, None)
    """
    return gpus[slot % len(gpus)] if len(gpus) > 1 else None


def named_gpus(visible: str) -> tuple[str, ...]:
    """Return the GPUs in a value of `CUDA_VISIBLE_DEVICES`. CUDA ignores entries after −1.

    Example:
        >>> named_gpus("3, 5"), named_gpus("0,-1,1"), named_gpus("")
        (('3', '5'), ('0',), ())
    """
    names = [name.strip() for name in visible.split(",")]
    until = names.index("-1") if "-1" in names else len(names)
    return tuple(filter(None, names[:until]))


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that this process may use, in the notation of `CUDA_VISIBLE_DEVICES`."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return named_gpus(named)
    import torch

    return tuple(str(index) for index in range(torch.cuda.device_count()))
