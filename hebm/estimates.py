"""Estimate the time of a run from a few steps of each phase and a few images of each kind.

For a phase of S steps, of which a trial took n, with s̄ the mean seconds of the timed ones:

    seconds = seconds of the trial + (S − n) s̄ + V S / L + rows

V is the extra time of a step that writes a line of the log, for example for a loss on held-out images. Such steps are L
steps apart. `rows` is the time for rows that the phase computes once and caches, at the trial's seconds per row. The
time of evaluation is the number of images of each kind times the seconds to draw, decode and extract features of one
image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

import attrs

from hebm.adaptation import has_target, sweeps_of
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.extractors import Extractor
from hebm.evaluation.kinds import DATA, GAUSSIAN, PRIOR, SCALED_GAUSSIAN
from hebm.evaluation.plan import EvaluationPlan
from hebm.model import Model
from hebm.noise import BLOCK
from hebm.registry import name_of
from hebm.store.row_cache import Trial
from hebm.trained import TrainedModel
from hebm.training.listeners import Listener
from hebm.training.phases import Phase

BACKBONE = "backbone"
"""The phase that a run skips if it loads the backbone of another run."""
STEPS = 5
"""The number of steps of each phase in a trial. The first warms up, the last writes a line of the log."""
_SLOW, _QUICK = 3.0, 0.5
"""A trial takes only one more step after one of _SLOW seconds, and times a whole batch if a small one is _QUICK."""


@attrs.frozen
class Estimate:
    """The estimated seconds of a run, and the parts that are not counted.

    Arguments:
        phases: seconds of training by phase.
        evaluation: seconds of drawing, decoding and features.
        shared: the seconds of evaluation that only the first of several priors on one backbone needs.
        timed: the smallest number of timed steps of a phase.
        uncounted: parts that take further time, such as a metric that does not declare its images.
    """

    phases: Mapping[str, float]
    evaluation: float
    timed: int
    uncounted: tuple[str, ...] = ()
    shared: float = 0.0

    @property
    def seconds(self) -> float:
        """The seconds of training and evaluation together."""
        return sum(self.phases.values()) + self.evaluation

    def given_backbone(self) -> Estimate:
        """Return the estimate for a run that loads a backbone which was trained and measured before."""
        phases = {name: seconds for name, seconds in self.phases.items() if name != BACKBONE}
        return attrs.evolve(self, phases=phases, evaluation=self.evaluation - self.shared, shared=0.0)

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values; times are in seconds."""
        parts = {name: round(seconds, 1) for name, seconds in self.phases.items()}
        found = {"seconds": round(self.seconds, 1), "phases": parts, "evaluation": round(self.evaluation, 1)}
        return {**found, "timed_steps": self.timed, "uncounted": list(self.uncounted)}

    def __str__(self) -> str:
        parts = [f"{name} {duration(seconds)}" for name, seconds in self.phases.items()]
        parts.append(f"evaluation {duration(self.evaluation)}")
        steps = f"{self.timed} step{'' if self.timed == 1 else 's'} of each phase"
        further = f"; not counted: {', '.join(self.uncounted)}" if self.uncounted else ""
        return f"about {duration(self.seconds)}: {', '.join(parts)} (measured on {steps}, on this machine{further})"


def duration(seconds: float | None) -> str:
    """Return a duration in words.

    Example:
        >>> duration(4000), duration(90), duration(7), duration(None)
        ('1 h 7 min', '2 min', '7 s', 'unknown')
    """
    if seconds is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


# ---------------------------------------------------------------- training


class StepTimes(Listener):
    """Time the steps of a trial, without the time for cached rows.

    Arguments:
        phases: the phases of the trial; their numbers of steps are reduced to `STEPS`.
        trial: collects the time of cached rows.
        batch_size: images per step.
        log_every: steps between two lines of the run's log.
    """

    def __init__(self, phases: Sequence[Phase], trial: Trial, batch_size: int, log_every: int) -> None:
        self.lengths = {phase.name: phase.steps for phase in phases}
        self.trial, self.batch_size, self.log_every = trial, batch_size, log_every
        self.seconds: dict[str, float] = {}
        self.timed: dict[str, int] = {}
        self.quickest: dict[str, float] = {}
        self._phases = {phase.name: phase for phase in phases}
        self._phase, self._opened, self._tables, self._marks = "", 0, slice(0), [self._now()]
        for phase in phases:
            phase.steps = min(phase.steps, STEPS)

    def started(self, phase: str, step: int, steps: int) -> None:
        """Start to time a phase. The tables that it opened and the time since the previous phase belong to it."""
        self._phase, self._marks = phase, [self._marks[-1], self._now()]
        self._tables, self._opened = slice(self._opened, len(self.trial.tables)), len(self.trial.tables)

    def stepped(self, loss: float | None) -> None:
        """Time a step. After a slow step, the phase takes only one more."""
        self._marks.append(self._now())
        phase, steps = self._phases[self._phase], self._steps
        if len(steps) >= 2 and steps[-1] > _SLOW:
            phase.steps = min(phase.steps, len(steps) + 1)
        self.seconds[self._phase] = self._of_phase()

    @property
    def _steps(self) -> list[float]:
        """The seconds of each step so far."""
        return [later - earlier for earlier, later in zip(self._marks[1:], self._marks[2:], strict=False)]

    @property
    def quickest_seconds(self) -> float:
        """The seconds of all training steps, if each step of a phase took as long as its quickest one."""
        return sum(self.lengths[phase] * seconds for phase, seconds in self.quickest.items())

    def _of_phase(self) -> float:
        steps, length = self._steps, self.lengths[self._phase]
        self.quickest[self._phase] = min(steps)
        timed = steps[1:-1] or steps[1:] or steps
        self.timed[self._phase] = len(timed)
        mean, images = fmean(timed), length * self.batch_size
        logging = max(0.0, steps[-1] - mean) * length / self.log_every if len(steps) > 2 else 0.0
        rows = sum(table.seconds_of(images) for table in self.trial.tables[self._tables])
        return self._marks[-1] - self._marks[0] + max(0, length - len(steps)) * mean + logging + rows

    def _now(self) -> float:
        return time.perf_counter() - self.trial.seconds


# ---------------------------------------------------------------- evaluation


@attrs.frozen
class EvaluationTime:
    """The seconds of an evaluation, the part that priors on one backbone share, and the parts not counted."""

    seconds: float
    shared: float
    uncounted: tuple[str, ...]


def draw_seconds(model: Model) -> float:
    """Return the seconds to draw 64 samples, without adapting step sizes."""
    model.assume_adapted()
    return _timed(lambda: model.sample(BLOCK))


def evaluation_time(evaluation: Evaluation, plan: EvaluationPlan, drawing: float) -> EvaluationTime:
    """Estimate the time of an evaluation from a batch of each kind of images.

    Arguments:
        evaluation: the evaluation of the model, which may be untrained.
        plan: the plan, which metrics use to declare the images that they need.
        drawing: the seconds for 64 samples of the learned prior.
    """
    images: dict[str, int] = {}
    uncounted = []
    for metric in evaluation.settings.metrics:
        counts = metric.image_counts(plan)
        uncounted += [] if counts else [f"metric {name_of(metric)}"]
        images |= {kind: max(n, images.get(kind, 0)) for kind, n in counts.items()}
    untrained = [name for name in evaluation.settings.extractor_names if not evaluation.has_extractor(name)]
    uncounted += [f"training of the extractor {name}, once for these data" for name in untrained]
    names = [name for name in evaluation.settings.extractor_names if name not in untrained]
    loaded = [evaluation.extractor(name) for name in names] if images else []
    rates = {kind: _seconds_to_draw(evaluation, kind, drawing) for kind in {_drawn(kind) for kind in images}}
    features = sum(_seconds_of_features(evaluation, extractor) for extractor in loaded)
    seconds = {kind: n * (rates[_drawn(kind)] + features) for kind, n in images.items()}
    own = seconds.pop(PRIOR, 0.0) + _adaptation(evaluation.model, drawing) * (PRIOR in images)
    shared = sum(seconds.values())
    return EvaluationTime(own + shared, shared, tuple(uncounted))


def _adaptation(model: TrainedModel, drawing: float) -> float:
    """Return the seconds to adapt the step sizes of all chains with a target acceptance."""
    return drawing * sum(sweeps_of(transition) for transition in model.path if has_target(transition))


def _drawn(kind: str) -> str:
    """Return the kind whose cost is measured: GAUSSIAN also stands for the Gaussian prior at another temperature."""
    return GAUSSIAN if kind == SCALED_GAUSSIAN else kind


def _seconds_to_draw(evaluation: Evaluation, kind: str, drawing: float) -> float:
    """Return the seconds to read, or draw and decode, an image of a kind. Slow draws of the prior use `drawing`."""
    if kind == PRIOR and drawing > 4 * _QUICK:
        return drawing / BLOCK

    def batch(rows: int) -> None:
        evaluation.pixel_batch(kind, 0, rows)
        evaluation.forget(kind)

    return _seconds_per_image(batch, min(evaluation.rows, evaluation.count(kind)))


def _seconds_of_features(evaluation: Evaluation, extractor: Extractor) -> float:
    """Return the seconds to extract features of an image. They do not depend on its content."""
    most = min(evaluation.rows, evaluation.count(DATA))
    return _seconds_per_image(lambda rows: extractor(evaluation.pixel_batch(DATA, 0, rows).pixels), most)


def _seconds_per_image(batch: Callable[[int], object], most: int) -> float:
    """Time a block of images, and a whole batch if the block is quick, since large batches cost less per image."""
    few = min(BLOCK, most)
    seconds = _timed(lambda: batch(few))
    if seconds > 4 * _QUICK:
        return seconds / few
    rows = most if seconds < _QUICK else few
    return _timed(lambda: batch(rows)) / rows


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
