"""The training state that a checkpoint stores besides tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import attrs

from hebm.store.checkpoints import MANIFEST, Checkpoint
from hebm.store.json_shapes import damaged, shaped
from hebm.training.plateau import Plateau

Format = Literal["contiguous", "channels-last"]
"""The memory formats in which a backbone can be trained."""


@attrs.frozen
class SavedState:
    """The `state` of a checkpoint that training saved.

    Arguments:
        finished: whether the phase is over, and `Phase.finish` was called or has nothing to do.
        plateau: the comparison of losses that ends a phase early.
        total_used: whether the loss has read the number of steps.
        skipped: number of steps skipped because their loss or gradient was not finite, or their gradient too large.
        in_a_row: number of non-finite steps since the last finite one.
        counts: running sums of the metrics that are counts, by name.
        seconds: training time so far.
        memory_format: the memory format in which the backbone is trained; None before the first phase that does.
    """

    finished: bool
    plateau: Plateau
    total_used: bool
    skipped: int
    in_a_row: int
    counts: Mapping[str, float]
    seconds: float
    memory_format: Format | None = None


def saved_state(checkpoint: Checkpoint) -> SavedState:
    """Return the state of a checkpoint. Raises `CheckpointError` with file and key if it is malformed."""
    path = (checkpoint.path or Path(f"step {checkpoint.total_step}")) / MANIFEST
    with damaged(path, "put back a good copy, or remove this checkpoint to go back to the one before"):
        state: SavedState = shaped(SavedState, checkpoint.state, "state")
    return state
