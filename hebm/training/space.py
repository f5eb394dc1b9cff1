"""Check the space that checkpoints need before hours are spent on what cannot be saved."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import Tensor, nn

from hebm.errors import CheckpointError
from hebm.training.phases import Phase

_MOMENTS = 2
"""Numbers that an optimiser keeps for each parameter, at most."""


def checkpoint_bytes(modules: Iterable[nn.Module], phases: Sequence[Phase]) -> int:
    """Return the most bytes of tensors in a checkpoint: all weights, and averages and moments of what a phase trains.

    Arguments:
        modules: backbone and prior.
        phases: of the training.
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
        folder: where they will be; it need not exist yet.
        size: bytes of one.
        count: how many will be written in addition to those that are there.
    """
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if size * count > free:
        needed = f"{count} checkpoints of {size / 2**20:,.0f} MiB each"
        raise CheckpointError(
            f"{folder}: the disk has {free / 2**20:,.0f} MiB free, training needs room for {needed}; free some space, "
            "choose another disk (--runs), or lower run.keep"
        )
