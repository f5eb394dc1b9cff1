"""Check before training that the disk has room for the checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor, nn

from hebm.errors import CheckpointError
from hebm.training.phases import Phase

_MOMENTS = 2
"""Largest number of moments that an optimiser keeps for each parameter."""


def checkpoint_bytes(modules: Iterable[nn.Module], phases: Sequence[Phase]) -> int:
    """Return the largest size of a checkpoint's tensors, in bytes: weights, averages and the optimiser's moments.

    Arguments:
        modules: backbone and prior.
        phases: the phases of training.
    """
    weights = sum(_bytes(tensor) for module in modules for tensor in module.state_dict().values())
    return weights + max(map(_bytes_of_phase, phases), default=0)


def _bytes_of_phase(phase: Phase) -> int:
    trained = sum(_bytes(p) for group in phase.groups.values() for p in group.parameters().values())
    averaged = sum(
        _bytes(tensor)
        for group in phase.groups.values()
        if group.optimization.ema
        for tensor in group.owner.state_dict().values()
    )
    return _MOMENTS * trained + averaged


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def require_space(folder: Path, size: int, count: int) -> None:
    """Raise `CheckpointError` if checkpoints do not fit on the disk.

    Arguments:
        folder: the folder of the checkpoints, which need not exist yet.
        size: size of one checkpoint in bytes.
        count: number of checkpoints to write in addition to existing ones.
    """
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if size * count > free:
        needed = f"{count} checkpoints of {size / 2**20:,.0f} MiB each"
        raise CheckpointError(
            f"{folder}: the disk has {free / 2**20:,.0f} MiB free, but training needs room for {needed}; free some "
            "space, choose another disk (--runs), or lower run.keep"
        )
