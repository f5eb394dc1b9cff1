"""How far the training of a run has come, told from its manifest and its newest checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from hebm.errors import CheckpointError
from hebm.store.checkpoints import Checkpoint
from hebm.training.phases import Phase
from hebm.training.saved_state import saved_state


@attrs.frozen
class Reached:
    """How far the training of a run has come.

    Arguments:
        phase: the name of the phase that was reached.
        step: steps completed in this phase.
        steps: the greatest number of steps that this phase has.
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
    """Return the greatest number of steps of each phase by name: the entry "phases" of a run's manifest."""
    return {phase.name: phase.steps for phase in phases}


def reached(plan: Mapping[str, int], checkpoint: Checkpoint | None) -> Reached:
    """Return how far training has come.

    Arguments:
        plan: the steps of each phase, in order.
        checkpoint: the newest one; its tensors are not needed. None before the first.

    Raises `CheckpointError` without a plan, and for a checkpoint of a phase that the plan does not have.
    """
    if not plan:
        raise CheckpointError("manifest.json does not say which phases this run has; start it again with hebm run")
    if checkpoint is None:
        phase, steps = next(iter(plan.items()))
        return Reached(phase, 0, steps, 0, False)
    if checkpoint.phase not in plan:
        raise CheckpointError(f"the checkpoint is of phase {checkpoint.phase!r}, this run has {list(plan)}")
    steps, last = plan[checkpoint.phase], list(plan)[-1]
    over = checkpoint.phase == last and not unfinished(checkpoint, steps)
    return Reached(checkpoint.phase, checkpoint.step, steps, checkpoint.total_step, over)


def unfinished(checkpoint: Checkpoint, steps: int) -> bool:
    """Return whether a phase of this number of steps lacks some of them, or what `Phase.finish` does after them."""
    state = saved_state(checkpoint)
    return (checkpoint.step < steps and not state.plateau.ended) or not state.finished
