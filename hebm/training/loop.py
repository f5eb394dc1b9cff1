"""The training loop: phases in order, each step a function of (seed, total step) and the weights."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import attrs
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from hebm.config.settings import RunSettings
from hebm.data.batches import Batches
from hebm.errors import CheckpointError, NonFiniteError
from hebm.interfaces import Backbone, Batch, Loss, PriorLearner, Progress
from hebm.noise import Noise
from hebm.store.checkpoints import Checkpoint, load_latest, save
from hebm.store.metrics import MetricsLog
from hebm.store.run_folder import RunFolder
from hebm.training.guard import Guard, first_offender, gradient_norm, nonfinite_report
from hebm.training.optimization import averaged
from hebm.training.phases import Phase
from hebm.training.plateau import Plateau
from hebm.training.state import GroupState, load_module

COUNT = "nonfinite"
"""Terms whose names begin so are counts: summed over rows and processes, and since the run began."""


class Listener(Protocol):
    """Hears of training; a progress bar, trackers, sample grids."""

    def started(self, phase: str, step: int, steps: int) -> None:
        """A phase starts, or resumes, at `step` of `steps`."""

    def stepped(self, loss: float | None) -> None:
        """One step is done; the loss where it was read."""

    def logged(self, record: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl was written."""

    def previewed(self, backbone: Backbone, prior: PriorLearner, total_step: int) -> None:
        """Time for a grid of samples, with averaged weights where there are any."""

    def said(self, message: str) -> None:
        """Something a user should read."""


class Stopped(Exception):
    """Training was asked to stop; everything is saved. `signal` is the signal's number."""

    def __init__(self, signal: int, total_step: int) -> None:
        super().__init__(f"stopped by signal {signal}, saved at step {total_step}; start the run again to continue")
        self.signal = signal


@attrs.frozen
class Place:
    """Where training is: step of a phase, and steps of all phases so far."""

    phase: int
    step: int
    total: int


class WatchedProgress(Progress):
    """Notes whether a loss asks for the number of steps: if it does, a longer run is another run from its start."""

    total_used = False

    def __getattribute__(self, name: str) -> Any:
        if name == "total":
            object.__setattr__(self, "total_used", True)
        return super().__getattribute__(name)


def _clipped(groups: Sequence[GroupState], together: bool) -> dict[str, Tensor]:
    """Norms of gradients before clipping, by name; groups that are clipped together have one."""
    parameters = {g.name: list(g.group.parameters().values()) for g in groups}
    if together and len(groups) > 1:
        whole = [p for group in parameters.values() for p in group]
        return {"grad_norm_together": gradient_norm(whole, groups[0].group.optimization.clip)}
    return {f"grad_norm_{g.name}": gradient_norm(parameters[g.name], g.group.optimization.clip) for g in groups}


class Trainer:
    """Trains the phases of one run.

    Arguments:
        backbone, prior: the live modules; at the end they hold the final (averaged) weights.
        phases: in order.
        batches: training data as a function of the step.
        folder: where checkpoints and metrics go.
        run_id: the run's identity, from its manifest.
        accelerator: devices, processes, precision.
        settings: the `[run]` table.
        seed: the run's seed.
        listener: hears of it, on the main process.
        stop: returns the number of a signal that asks to stop, or 0.
    """

    def __init__(
        self,
        backbone: Backbone,
        prior: PriorLearner,
        phases: tuple[Phase, ...],
        batches: Batches,
        folder: RunFolder,
        run_id: str,
        accelerator: Accelerator,
        settings: RunSettings,
        seed: int,
        listener: Listener,
        stop: Callable[[], int] = lambda: 0,
    ) -> None:
        self.backbone, self.prior, self.phases, self.batches = backbone, prior, phases, batches
        self.folder, self.run_id, self.accelerator = folder, run_id, accelerator
        self.settings, self.listener = settings, listener
        self.noise = Noise(seed, "train", device=accelerator.device, dtype=next(backbone.parameters()).dtype)
        self.stop, self.guard, self.log = stop, Guard(settings.max_skipped), MetricsLog(folder.metrics_log)
        self.main = accelerator.is_main_process
        self.counts: dict[str, Tensor] = {}
        self.plateau, self.total_used = Plateau(0), False
        self._seconds, self._since = 0.0, time.monotonic()
        self.first_row = accelerator.process_index * batches.recipe.batch_size // accelerator.num_processes

    def train(self) -> None:
        """Train from the newest good checkpoint, or from the start, to the end of the last phase.

        Raises `Stopped` if asked to stop, `NonFiniteError` after too many steps in a row that were not finite,
        `CheckpointError` if checkpoints cannot be read or written.
        """
        with self.accelerator.main_process_first():  # damaged ones are set aside before others look
            checkpoint = load_latest(self.folder.checkpoints, self.run_id, self._said, set_aside=self.main)
        place = self._restore(checkpoint)
        for index in range(place.phase, len(self.phases)):
            if index > place.phase:
                place, checkpoint = Place(index, 0, place.total), None
            place = self._run_phase(place, checkpoint)
        if signal := self._asked_to_stop():
            raise Stopped(signal, place.total)

    @property
    def seconds(self) -> float:
        """Wall time of this run's training so far, what was lost between a checkpoint and a kill left out."""
        return self._seconds + time.monotonic() - self._since

    # ------------------------------------------------------------ one phase

    def _run_phase(self, place: Place, checkpoint: Checkpoint | None) -> Place:
        phase = self.phases[place.phase]
        self._choose_parameters(phase)
        self.plateau = Plateau(phase.patience)
        self.total_used = checkpoint is not None and bool(checkpoint.state.get("total_used", True))
        phase.start(self.noise.derive("begin", phase.name))  # before averages are copied from what it sets
        groups = [self._group_state(name, phase) for name in phase.groups]
        if checkpoint is not None:
            self.plateau = attrs.evolve(_plateau_of(checkpoint), window=phase.patience)
            for group in groups:
                group.load(checkpoint.tensors)
        wrapped = self.accelerator.prepare(phase) if groups and self._trains(phase) else phase
        self._tell("started", phase.name, place.step, phase.steps)
        end = place
        if checkpoint is None or unfinished(checkpoint, phase):
            end = self._run_steps(place, phase, wrapped, groups)
            if phase.finishes:
                if end != place:  # so that a longer run can go on from here
                    self._save(end, groups, finished=False)
                self._finish(phase, groups)
            self._save(end, groups, finished=True)
        del wrapped
        self.accelerator.free_memory()  # else this phase's hooks still average gradients in the next
        self.accelerator.wait_for_everyone()
        for group in groups:
            if group.average is not None:
                group.group.owner.load_state_dict(group.average.module.state_dict())
        return end

    def _finish(self, phase: Phase, groups: list[GroupState]) -> None:
        """Once a phase: `Phase.finish` on what was trained and on its averages."""
        averages = [group.average.module for group in groups if group.average is not None]
        for owner in (*(group.group.owner for group in groups), *averages):
            phase.finish(owner, self.noise.derive("finish", phase.name))

    def _run_steps(self, place: Place, phase: Phase, wrapped: Any, groups: list[GroupState]) -> Place:
        """Where the phase ended: after all its steps, or where its loss no longer fell."""
        started, now = time.monotonic(), place
        if self.plateau.ended:
            return place
        stop_at = place.total + max(0, phase.steps - place.step)
        for offset, parts in enumerate(self._steps(place.total, stop_at)):
            record = self._step(now, phase, wrapped, groups, parts)
            now = Place(now.phase, now.step + 1, now.total + 1)
            last = self._plateau_reached(record[phase.watched]) or now.step == phase.steps
            self._after_step(now, phase, groups, record, (offset + 1) / (time.monotonic() - started), last)
            if last:
                break
        return now

    def _plateau_reached(self, loss: Tensor) -> bool:
        return bool(self.plateau.window) and self.plateau.reached(self._reduced(loss, "mean"))

    def _steps(self, start: int, stop: int) -> Iterator[list[Batch]]:
        """This process's rows of each step, as the micro-batches whose gradients are summed."""
        parts = self.settings.gradient_accumulation
        flat = self.batches.iterate(start, stop, parts)
        while first := next(flat, None):
            yield [first, *itertools.islice(flat, parts - 1)]

    def _step(
        self, now: Place, phase: Phase, wrapped: Any, groups: list[GroupState], parts: list[Batch]
    ) -> dict[str, Tensor]:
        """One update of every group; the step's figures, still on the device."""
        progress = WatchedProgress(now.step, phase.steps, self.batches.recipe.batch_size)
        for group in groups:
            for settings in group.optimizer.param_groups:
                settings["lr"] = group.group.optimization.rate(now.step, phase.steps)
        losses = []
        first_row = self.first_row
        for part in parts:
            noise = self.noise.derive(now.total).at(first_row)
            first_row += len(part.x)
            with self.accelerator.accumulate(wrapped):
                loss: Loss = wrapped(part, noise, progress)
                self.accelerator.backward(loss.total)
            losses.append(loss)
        self.total_used |= progress.total_used
        figures = self._counted(_mean_figures(losses))
        norms = _clipped(groups, phase.one_clip)
        self._update(groups, {**figures, **norms}, phase, parts, progress, now)
        return {**figures, **norms}

    def _counted(self, figures: dict[str, Tensor]) -> dict[str, Tensor]:
        """The figures but the counts, which are added up."""
        for name in [name for name in figures if name.startswith(COUNT)]:
            self.counts[name] = figures.pop(name).float() + self.counts.get(name, 0.0)
        return figures

    def _update(
        self,
        groups: list[GroupState],
        figures: Mapping[str, Tensor],
        phase: Phase,
        parts: list[Batch],
        progress: Progress,
        now: Place,
    ) -> None:
        judged = [value for name, value in figures.items() if name == "loss" or name.startswith("grad_norm_")]
        finite = torch.stack([value.isfinite().all() for value in judged]).all().to(torch.float32)
        if self.accelerator.num_processes > 1:
            finite = self.accelerator.reduce(finite, "sum") >= self.accelerator.num_processes
        if bool(finite):
            self.guard.passed()
            for group in groups:
                group.optimizer.step()
                if group.average is not None:
                    group.average.update_parameters(group.group.owner)
        elif self.guard.failed():
            raise self._nonfinite(figures, phase, parts[0], progress, now)
        for group in groups:
            group.optimizer.zero_grad(set_to_none=True)

    def _nonfinite(
        self, figures: Mapping[str, Tensor], phase: Phase, batch: Batch, progress: Progress, now: Place
    ) -> NonFiniteError:
        """The error that ends the run, the same on every process."""
        noise = self.noise.derive(now.total).at(self.first_row)
        found: list[str] = gather_object([first_offender(phase, batch, noise, progress)])
        means = {name: self._reduced(value, "mean") for name, value in figures.items()}
        return nonfinite_report(phase.name, progress, means, next(filter(None, found), ""), self.guard.limit)

    def _after_step(
        self, done: Place, phase: Phase, groups: list[GroupState], record: Mapping[str, Tensor], rate: float, last: bool
    ) -> None:
        settings, loss = self.settings, None
        if done.total % settings.log_every == 0 or last:
            loss = self._log(done, phase, groups, record, rate)
        self._tell("stepped", loss)
        if settings.sample_every and done.total % settings.sample_every == 0 and self.main:
            averages: dict[str, Any] = {g.name: g.average.module for g in groups if g.average is not None}
            chosen = averages.get("backbone", self.backbone), averages.get("prior", self.prior)
            with torch.no_grad():
                self.listener.previewed(*chosen, done.total)
        signal = self._asked_to_stop()
        due = done.total % settings.checkpoint_every == 0 and not last
        if signal or (due and not self.guard.in_a_row):  # what makes steps fail may be in the weights already
            self._save(done, groups, finished=last and not phase.finishes)
        if signal:
            raise Stopped(signal, done.total)

    def _log(
        self, done: Place, phase: Phase, groups: list[GroupState], record: Mapping[str, Tensor], rate: float
    ) -> float:
        figures = {name: self._reduced(value, "mean") for name, value in record.items()} | self._totals()
        rates = {f"learning_rate_{g.name}": g.optimizer.param_groups[0]["lr"] for g in groups}
        line = {"phase": phase.name, "step": done.step, "total_step": done.total, **figures, **rates}
        line |= {"skipped": self.guard.skipped, "steps_per_second": round(rate, 3)}
        if self.main:
            self.log.append(line)
            self.listener.logged(line)
        return figures["loss"]

    def _reduced(self, value: Tensor, how: str) -> float:
        """The mean or sum over processes."""
        return float(self.accelerator.reduce(value.detach(), how))

    def _totals(self) -> dict[str, float]:
        """The counts, over all processes."""
        return {name: self._reduced(value, "sum") for name, value in self.counts.items()}

    # ------------------------------------------------------------ state

    def _choose_parameters(self, phase: Phase) -> None:
        for module in (self.backbone, self.prior):
            module.requires_grad_(False)
        for group in phase.groups.values():
            for parameter in group.parameters().values():
                parameter.requires_grad_(True)

    @staticmethod
    def _trains(phase: Phase) -> bool:
        return any(group.parameters() for group in phase.groups.values())

    def _group_state(self, name: str, phase: Phase) -> GroupState:
        group = phase.groups[name]
        optimizer = group.optimization.build(group.parameters().values())
        average = averaged(group.owner, group.optimization.ema) if group.optimization.ema else None
        return GroupState(name, group, optimizer, average)

    def _save(self, place: Place, groups: list[GroupState], finished: bool) -> None:
        counts = self._totals()
        if self.main:
            tensors: dict[str, Mapping[str, Tensor]] = {
                "backbone": self.backbone.state_dict(),
                "prior": self.prior.state_dict(),
            }
            for group in groups:
                tensors.update(group.tensors())
            state = {
                "finished": finished,
                "skipped": self.guard.skipped,
                "in_a_row": self.guard.in_a_row,
                "plateau": attrs.asdict(self.plateau),
                "counts": counts,
                "total_used": self.total_used,
                "seconds": round(self.seconds, 3),
            }
            name = self.phases[place.phase].name
            checkpoint = Checkpoint(name, place.step, place.total, tensors, state)
            save(self.folder.checkpoints, checkpoint, self.settings.keep, self.run_id)
            self.log.sync()
        self.accelerator.wait_for_everyone()

    def _restore(self, checkpoint: Checkpoint | None) -> Place:
        if checkpoint is None:
            if self.main:
                self.log.truncate_after(0)
            return Place(0, 0, 0)
        names = [phase.name for phase in self.phases]
        if checkpoint.phase not in names:
            raise CheckpointError(f"the checkpoint is of phase {checkpoint.phase!r}, this run has {names}")
        load_module(self.backbone, checkpoint.tensors["backbone"], "backbone")
        load_module(self.prior, checkpoint.tensors["prior"], "prior")
        self.guard.skipped, self.guard.in_a_row = checkpoint.state["skipped"], checkpoint.state["in_a_row"]
        self._seconds = checkpoint.state["seconds"]
        for name, value in checkpoint.state["counts"].items():
            self.counts[name] = torch.tensor(value if self.main else 0.0, device=self.accelerator.device)
        if self.main:
            self.log.truncate_after(checkpoint.total_step)
        return Place(names.index(checkpoint.phase), checkpoint.step, checkpoint.total_step)

    def _asked_to_stop(self) -> int:
        signal = self.stop()
        if self.accelerator.num_processes == 1:
            return signal
        flag = torch.tensor(float(signal), device=self.accelerator.device)
        return int(self.accelerator.gather(flag).max())

    def _said(self, message: str) -> None:
        self._tell("said", message)

    def _tell(self, event: str, *arguments: Any) -> None:
        if self.main:
            getattr(self.listener, event)(*arguments)


def unfinished(checkpoint: Checkpoint, phase: Phase) -> bool:
    """Whether a checkpoint of this phase lacks steps of it, or what `Phase.finish` does after them."""
    lacking = checkpoint.step < phase.steps and not _plateau_of(checkpoint).ended
    return lacking or not checkpoint.state.get("finished", True)


def _plateau_of(checkpoint: Checkpoint) -> Plateau:
    """As saved; a new one where the run began before there were any."""
    return Plateau(**checkpoint.state.get("plateau", {"window": 0}))


def _mean_figures(losses: list[Loss]) -> dict[str, Tensor]:
    """Loss and terms averaged over micro-batches; counts summed."""
    figures = {"loss": torch.stack([loss.total.detach() for loss in losses]).mean()}
    for name in losses[0].terms:
        values = torch.stack([loss.terms[name] for loss in losses])
        figures[name] = values.sum() if name.startswith(COUNT) else values.mean()
    return figures
