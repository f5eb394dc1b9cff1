"""Determine how far a run has been trained, from its manifest and its newest checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from hebm.errors import CheckpointError
from hebm.store.checkpoints import Checkpoint
from hebm.training.phases import Phase
from hebm.training.saved_state import saved_state


@attrs.frozen
class Reached:
    """The point that the training of a run has reached.

    Arguments:
        phase: name of the current phase.
        step: steps completed in this phase.
        steps: largest number of steps of this phase.
        total: steps completed over all phases.
        finished: whether training is over.
    """

    phase: str
    step: int
    steps: int
    total: int
    finished: bool

    def __str__(self) -> str:
        return f"step {self.step} of {self.steps} in phase {self.phase!r}"


def planned(phases: Sequence[Phase]) -> dict[str, int]:
    """Return the largest number of steps of each phase by name: the entry "phases" of a run's manifest."""
    return {phase.name: phase.steps for phase in phases}


def reached(plan: Mapping[str, int], checkpoint: Checkpoint | None) -> Reached:
    """Return the point that training has reached.

    Arguments:
        plan: the steps of each phase, in order.
        checkpoint: the newest checkpoint, of which no tensors are needed; None before the first.

    Raises `CheckpointError` if the plan is empty or lacks the checkpoint's phase.
    """
    if not plan:
        raise CheckpointError("manifest.json does not list the phases of this run; start it again with hebm run")
    if checkpoint is None:
        phase, steps = next(iter(plan.items()))
        return Reached(phase, 0, steps, 0, False)
    if checkpoint.phase not in plan:
        raise CheckpointError(f"the checkpoint is from phase {checkpoint.phase!r}, but this run has {list(plan)}")
    steps, last = plan[checkpoint.phase], list(plan)[-1]
    over = checkpoint.phase == last and not unfinished(checkpoint, steps)
    return Reached(checkpoint.phase, checkpoint.step, steps, checkpoint.total_step, over)


def unfinished(checkpoint: Checkpoint, steps: int) -> bool:
    """Return whether a phase with this number of steps has steps left, or `Phase.finish` still to run."""
    state = saved_state(checkpoint)
    return (checkpoint.step < steps and not state.plateau.ended) or not state.finished
