"""Train one phase: set up parameters and optimisers, take steps, save checkpoints."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import torch
from accelerate.utils import gather_object
from torch import Tensor

from hebm.errors import NonFiniteError
from hebm.interfaces import Batch, Loss
from hebm.memory import keep_freed_memory
from hebm.model import Model
from hebm.store.checkpoints import Checkpoint
from hebm.training.guard import (
    Weights,
    advice,
    first_offender,
    large_gradients_note,
    largest_weight,
    nonfinite_report,
)
from hebm.training.job import Place, WatchedProgress
from hebm.training.memory_formats import choose, to_format
from hebm.training.phases import BACKBONE, Phase, Supplies
from hebm.training.plateau import Plateau
from hebm.training.run_state import RunState, Stopped
from hebm.training.saved_state import saved_state
from hebm.training.state import GroupState, above_limit, clip_gradients
from hebm.training.step_metrics import mean_metrics
from hebm.training.validation import LOSS, Validation


class PhaseRun:
    """Trains one phase.

    Arguments:
        run: the state that all phases share.
        place: the place at which the phase starts or resumes.
        checkpoint: the checkpoint to resume from; None at the phase's start.
    """

    def __init__(self, run: RunState, place: Place, checkpoint: Checkpoint | None) -> None:
        self.run, self.place, self.phase = run, place, run.job.phases[place.phase]
        _require_gradients(run.job.model, self.phase)
        keep_freed_memory()
        if BACKBONE in self.phase.groups:
            run.memory_format = choose(run, self.phase.steps - place.step)
            to_format(run.job.model.backbone, run.memory_format)
        supplies = Supplies(run.job.batches, attrs.evolve(run.job.cache, say=run.listener.said))
        self.phase.start(run.noise.derive("begin", self.phase.key), supplies)  # first, since averages copy its result
        self.groups = [GroupState.of(name, group) for name, group in self.phase.groups.items()]
        self.plateau, self.total_used = Plateau(self.phase.patience), False
        if checkpoint is not None:
            state = saved_state(checkpoint)
            self.total_used = state.total_used
            self.plateau = attrs.evolve(state.plateau, window=self.phase.patience)
            for group in self.groups:
                group.load(checkpoint.tensors)
        self.validation = self._validation()
        trained = any(group.group.parameters() for group in self.groups)
        self._wrapped: Any = run.accelerator.prepare(self.phase) if trained else self.phase
        self._since = time.monotonic(), place.step
        self._sizes = {group.name: _largest(group) for group in self.groups}

    def train(self) -> None:
        """Take the remaining steps, until the last one or until the loss stops falling.

        Raises `Stopped` if a signal to stop arrived, and `NonFiniteError` after too many consecutive skipped steps.
        """
        if self.plateau.ended:
            return
        for parts in self._batches():
            metrics = self._step(parts)
            self.place = self.place.after_step()
            validated = self._validated()
            last = self._plateau_reached(metrics[self.phase.watched], validated) or self.place.step == self.phase.steps
            self._after_step(metrics, validated, last)
            if last:
                break

    def finish(self, start: Place) -> None:
        """Call `Phase.finish` on each trained module, then on each averaged copy.

        If a step was taken since `start`, a checkpoint is saved first, so that the run can be extended.
        """
        if self.phase.finishes and self.place != start:
            self.save(finished=False, wait=False)
        averages = [group.average.module for group in self.groups if group.average is not None]
        for owner in (*(group.group.owner for group in self.groups), *averages):
            self.phase.finish(owner, self.run.noise.derive("finish", self.phase.key))

    def save(self, finished: bool, wait: bool) -> None:
        """Save a checkpoint. Every process must call this.

        Arguments:
            finished: whether the last step was taken and `finish` was called or has nothing to do.
            wait: return when the checkpoint is on the disk, instead of saving a copy in the background.
        """
        plateau = attrs.asdict(self.plateau)
        state = {"finished": finished, "plateau": plateau, "total_used": self.total_used, **self.run.saved()}
        if self.run.main:
            checkpoint = Checkpoint(self.phase.name, self.place.step, self.place.total, self._tensors(), state)
            (self.run.writer.save if wait else self.run.writer.start)(checkpoint)
        if wait:
            self.run.accelerator.wait_for_everyone()

    def close(self) -> None:
        """Unwrap the phase, and replace weights by their averages."""
        del self._wrapped
        self.run.accelerator.free_memory()  # otherwise this phase's hooks average gradients in the next one too
        self.run.accelerator.wait_for_everyone()
        for group in self.groups:
            if group.average is not None:
                group.group.owner.load_state_dict(group.average.module.state_dict())
        to_format(self.run.job.model.backbone, "contiguous")

    # ------------------------------------------------------------ one step

    def _validation(self) -> Validation | None:
        """Return the phase's validation on held-out images, of the averaged prior if the phase averages it."""
        images, prior = self.run.job.validation, self.run.job.model.prior
        if images is None:
            return None
        averages: list[Any] = [g.average.module for g in self.groups if g.name == "prior" and g.average is not None]
        noise = self.run.noise.derive("validation", self.phase.key)
        return Validation.of(self.phase, next(iter(averages), prior), images, noise)

    def _validated(self) -> dict[str, float]:
        """Return the validation metrics, averaged over processes; empty if neither log nor `patience` needs them."""
        due = self.place.total % self.run.job.settings.log_every == 0 or self.place.step == self.phase.steps
        watched = bool(self.plateau.window) and self.place.step % self.plateau.window == 0
        if self.validation is None or not (due or watched):
            return {}
        device = self.run.accelerator.device
        return {k: self.run.mean(torch.tensor(v, device=device)) for k, v in self.validation.metrics().items()}

    @property
    def progress(self) -> WatchedProgress:
        """The progress of the phase."""
        return WatchedProgress(self.place.step, self.phase.steps, self.run.job.batches.recipe.batch_size)

    def _batches(self) -> Iterator[list[Batch]]:
        """Yield this process's rows of each remaining step, as micro-batches whose gradients are summed."""
        parts = self.run.job.settings.gradient_accumulation
        start = self.place.step if self.phase.own_epochs else self.place.total
        stop = start + max(0, self.phase.steps - self.place.step)
        micro_batches = self.run.job.batches.iterate(start, stop, parts)
        while first := next(micro_batches, None):
            yield [first, *itertools.islice(micro_batches, parts - 1)]

    def _step(self, parts: list[Batch]) -> dict[str, Tensor]:
        """Update every group once, and return the step's metrics, still on the device."""
        for group in self.groups:
            group.set_rate(self.place.step, self.phase.steps)
        losses = self._accumulate(parts)
        norms = clip_gradients(self.groups, self.phase.one_clip)
        metrics = self.run.without_counts(mean_metrics(losses)) | norms
        if not self._finite(metrics):
            if self.run.guard.failed():
                raise self._nonfinite(metrics, parts[0])
        elif above_limit(self.groups, norms):
            if self.run.guard.too_large():
                self.run.listener.said(large_gradients_note(self.phase.name, self.run.guard, norms))
        else:
            self.run.guard.passed()
            for group in self.groups:
                group.update()
        for group in self.groups:
            group.optimizer.zero_grad(set_to_none=True)
        return metrics

    def _accumulate(self, parts: list[Batch]) -> list[Loss]:
        """Add up the gradients of all micro-batches, and return their losses."""
        losses, row, progress = [], self.run.first_row, self.progress
        for part in parts:
            noise = self.run.noise.derive(self.place.total).at(row)
            row += len(part.x)
            with self.run.accelerator.accumulate(self._wrapped):
                loss: Loss = self._wrapped(part, noise, progress)
                self.run.accelerator.backward(loss.total)
            losses.append(loss)
        self.total_used |= progress.total_used
        return losses

    def _finite(self, metrics: Mapping[str, Tensor]) -> bool:
        """Return whether the loss and the norms of all gradients are finite on every process."""
        judged = [value for name, value in metrics.items() if name == "loss" or name.startswith("grad_norm_")]
        return self.run.everywhere(torch.stack([value.isfinite().all() for value in judged]).all())

    def _nonfinite(self, metrics: Mapping[str, Tensor], batch: Batch) -> NonFiniteError:
        """Return the error that ends the run; it is the same on every process."""
        noise = self.run.noise.derive(self.place.total).at(self.run.first_row)
        found: list[str] = gather_object([first_offender(self.phase, batch, noise, self.progress)])
        means = {name: self.run.mean(value) for name, value in metrics.items()}
        first = next(filter(None, found), "")
        chains = sum(value for name, value in self.run.counts().items() if name.startswith("nonfinite"))
        weights = [
            Weights(g.name, self._sizes[g.name], _largest(g), g.optimizer.param_groups[0]["lr"]) for g in self.groups
        ]
        fix = advice(weights, chains)
        return nonfinite_report(self.phase.name, self.progress, means, first, self.run.guard.limit, fix)

    # ------------------------------------------------------------ after a step

    def _plateau_reached(self, loss: Tensor, validated: Mapping[str, float]) -> bool:
        """Return whether the loss no longer falls: the validation loss if the phase has one, or the training loss."""
        if not self.plateau.window:
            return False
        if self.validation is None:
            return self.plateau.reached(self.run.mean(loss))
        return self.place.step % self.plateau.window == 0 and self.plateau.closed(validated[LOSS])

    def _after_step(self, metrics: Mapping[str, Tensor], validated: Mapping[str, float], last: bool) -> None:
        """Log, call the listener, save and stop, each if due. Raises the error of a save in the background."""
        self.run.writer.check()
        settings, total = self.run.job.settings, self.place.total
        logged = last or total % settings.log_every == 0
        self.run.listener.stepped(self._log(metrics, validated) if logged else None)
        if settings.sample_every and total % settings.sample_every == 0:
            self._preview()
        signal = self.run.stop_signal()
        due = total % settings.checkpoint_every == 0 and not last
        # After a failed step the weights may be the cause, so only a signal saves them.
        if signal or (due and not self.run.guard.in_a_row):
            self.save(finished=last and not self.phase.finishes, wait=bool(signal))
        if signal:
            raise Stopped(signal, total)
        if not last and not due and self.place.step == self._since[1] + 1:
            self._reserve()

    def _reserve(self) -> None:
        """Provide memory for the first copy, if a save in the background is due. The first step makes the moments."""
        total, every = self.place.total, self.run.job.settings.checkpoint_every
        due = total - total % every + every
        if self.run.main and (self.phase.finishes or due < total + self.phase.steps - self.place.step):
            self.run.writer.reserve(self._tensors())

    def _log(self, metrics: Mapping[str, Tensor], validated: Mapping[str, float]) -> float:
        """Append a line to metrics.jsonl, and return the loss averaged over processes."""
        means = {name: self.run.mean(value) for name, value in metrics.items()}
        rates = {f"learning_rate_{group.name}": group.optimizer.param_groups[0]["lr"] for group in self.groups}
        place = {"phase": self.phase.name, "step": self.place.step, "total_step": self.place.total}
        line = {**place, **means, **validated, **self.run.counts(), **rates, "skipped": self.run.guard.skipped}
        self.run.record({**line, "steps_per_second": round(self._speed(), 3)})
        return means["loss"]

    def _speed(self) -> float:
        """Return the steps per second since the phase started or resumed."""
        since, first = self._since
        return (self.place.step - first) / (time.monotonic() - since)

    @torch.no_grad()
    def _preview(self) -> None:
        averages: dict[str, Any] = {g.name: g.average.module for g in self.groups if g.average is not None}
        model = self.run.job.model
        shown = averages.get("backbone", model.backbone), averages.get("prior", model.prior)
        self.run.listener.previewed(*shown, self.place.total)

    def _tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """Return weights, averages and moments by file name."""
        model = self.run.job.model
        tensors: dict[str, Mapping[str, Tensor]] = {
            "backbone": model.backbone.state_dict(),
            "prior": model.prior.state_dict(),
        }
        for group in self.groups:
            tensors.update(group.tensors())
        return tensors


def _largest(group: GroupState) -> float:
    return largest_weight(group.group.parameters().values())


def _require_gradients(model: Model, phase: Phase) -> None:
    """Require gradients of the phase's parameters only."""
    model.requires_grad_(False)
    for group in phase.groups.values():
        for parameter in group.parameters().values():
            parameter.requires_grad_(True)
