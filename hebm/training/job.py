"""What a run trains, and the place that training has reached."""

from __future__ import annotations

import attrs

from hebm.config.settings import RunSettings
from hebm.data.batches import Batches
from hebm.model import Model
from hebm.store.run_folder import RunFolder
from hebm.training.phases import Phase


@attrs.frozen(eq=False)
class TrainingJob:
    """Everything that decides what a run trains and where it is saved.

    Arguments:
        model: backbone and prior; after training they hold the final (averaged) weights.
        phases: in order.
        batches: training data as a function of the step.
        folder: where checkpoints and metrics are written.
        run_id: the run's identity, from its manifest.
        settings: the `[run]` table.
        seed: the run's seed.
    """

    model: Model
    phases: tuple[Phase, ...]
    batches: Batches
    folder: RunFolder
    run_id: str
    settings: RunSettings
    seed: int


@attrs.frozen
class Place:
    """How far training has come.

    Arguments:
        phase: index of the current phase.
        step: steps completed in this phase.
        total: steps completed over all phases.
    """

    phase: int
    step: int
    total: int

    def after_step(self) -> Place:
        """Return the place one step later."""
        return Place(self.phase, self.step + 1, self.total + 1)

    def next_phase(self) -> Place:
        """Return the start of the next phase."""
        return Place(self.phase + 1, 0, self.total)
