"""Train the phases of a run in order. Each step is a function of (seed, total step) and the weights."""

from __future__ import annotations

from collections.abc import Callable

from accelerate import Accelerator

from hebm.errors import CheckpointError
from hebm.memory import explaining_memory
from hebm.store.checkpoints import Checkpoint, load_latest
from hebm.training.job import Place, TrainingJob
from hebm.training.listeners import Listener
from hebm.training.phase_run import PhaseRun
from hebm.training.reached import unfinished
from hebm.training.run_state import RunState, Stopped
from hebm.training.saved_state import saved_state
from hebm.training.state import load_module, restored_requires_grad, tensors_of


class Trainer:
    """Trains the phases of one run.

    Arguments:
        job: the model, its phases and data, and the run folder.
        accelerator: devices, processes and precision.
        listener: a listener that follows training on the main process.
        stop: returns the number of a signal to stop, or 0.
    """

    def __init__(
        self,
        job: TrainingJob,
        accelerator: Accelerator,
        listener: Listener,
        stop: Callable[[], int] = lambda: 0,
    ) -> None:
        self.job, self.run = job, RunState(job, accelerator, listener, stop)

    @property
    def seconds(self) -> float:
        """Seconds of wall time spent on training so far; see `RunState.seconds`."""
        return self.run.seconds

    def train(self) -> None:
        """Train from the newest good checkpoint, or from the start, to the end of the last phase.

        Phases set `requires_grad` of the model's parameters; at the end it is as before.

        Raises:
            Stopped: if a signal to stop arrived; a checkpoint was saved before.
            NonFiniteError: after too many consecutive steps whose loss or gradient was not finite.
            CheckpointError: if checkpoints cannot be read or written.
        """
        with self.run.writer.finishing(self.run.listener.said), restored_requires_grad(self.job.model):
            self._train()

    def _train(self) -> None:
        checkpoint = self._newest()
        place = self._restore(checkpoint)
        while place.phase < len(self.job.phases):
            place = self._train_phase(place, checkpoint).next_phase()
            checkpoint = None
        if signal := self.run.stop_signal():
            raise Stopped(signal, place.total)

    def _newest(self) -> Checkpoint | None:
        """Return the newest good checkpoint. The main process reads first and sets damaged ones aside."""
        folder, main = self.job.folder.checkpoints, self.run.main
        with self.run.accelerator.main_process_first():
            return load_latest(folder, self.job.run_id, self.run.listener.said, set_aside=main)

    def _train_phase(self, start: Place, checkpoint: Checkpoint | None) -> Place:
        """Train one phase from its start or a checkpoint of it, and return the place where it ended."""
        name, batch = self.job.phases[start.phase].name, self.job.batches.recipe.batch_size
        parts = self.job.settings.gradient_accumulation
        fix = (
            f"use a smaller data.batch_size than {batch}, more run.gradient_accumulation than {parts} (the gradient "
            "stays the same), or smaller nets. Earlier checkpoints are kept"
        )
        with explaining_memory(f"phase {name!r} is trained on batches of {batch} images", fix):
            return self._trained_phase(start, checkpoint)

    def _trained_phase(self, start: Place, checkpoint: Checkpoint | None) -> Place:
        current = PhaseRun(self.run, start, checkpoint)
        self.run.listener.started(current.phase.name, start.step, current.phase.steps)
        if checkpoint is None or unfinished(checkpoint, current.phase.steps):
            current.train()
            current.finish(start)
            current.save(finished=True, wait=True)
        current.close()
        return current.place

    def _restore(self, checkpoint: Checkpoint | None) -> Place:
        """Load weights and counts, and return the place at which the checkpoint was saved."""
        if checkpoint is None:
            self.run.shorten_log(0)
            return Place(0, 0, 0)
        names = [phase.name for phase in self.job.phases]
        if checkpoint.phase not in names:
            raise CheckpointError(f"the checkpoint is from phase {checkpoint.phase!r}, but this run has {names}")
        for name in ("backbone", "prior"):
            load_module(getattr(self.job.model, name), tensors_of(checkpoint.tensors, name), name)
        self.run.load(saved_state(checkpoint), checkpoint.total_step)
        return Place(names.index(checkpoint.phase), checkpoint.step, checkpoint.total_step)
