"""The training job of a run, and the place that training has reached."""

from __future__ import annotations

from typing import Any

import attrs

from hebm.config.settings import RunSettings
from hebm.data.batches import Batches
from hebm.interfaces import Progress
from hebm.model import Model
from hebm.store.row_cache import RowCache
from hebm.store.run_folder import RunFolder
from hebm.training.phases import Phase


@attrs.frozen(eq=False)
class TrainingJob:
    """The inputs of training: model, phases, data and run folder.

    Arguments:
        model: backbone and prior; after training they hold the final (averaged) weights.
        phases: the phases in order.
        batches: training data as a function of the step.
        folder: the run folder, for checkpoints and metrics.
        run_id: the run's identity, from its manifest.
        settings: the `[run]` table.
        seed: the run's seed.
        cache: stores rows that are expensive to compute; bound to the run's data and backbone recipe.
        validation: all held-out images, on every process; None without a validation part.
    """

    model: Model
    phases: tuple[Phase, ...]
    batches: Batches
    folder: RunFolder
    run_id: str
    settings: RunSettings
    seed: int
    cache: RowCache = attrs.field(factory=RowCache)
    validation: Batches | None = None


@attrs.frozen
class Place:
    """A place in training.

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


class WatchedProgress(Progress):
    """Records whether a loss reads the number of steps. If it does, the run cannot be extended."""

    total_used = False

    def __getattribute__(self, name: str) -> Any:
        """Return an attribute, and record a read of `total`."""
        if name == "total":
            object.__setattr__(self, "total_used", True)
        return super().__getattribute__(name)
