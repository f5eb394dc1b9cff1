"""Check an experiment: build everything, take a few steps of every phase, draw samples, estimate the time of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

from hebm import pipeline, registry
from hebm.config.components import components
from hebm.config.experiment import Experiment, require_experiment
from hebm.data.splits import described
from hebm.estimates import Estimate, draw_seconds, evaluation_time
from hebm.memory import peak_memory
from hebm.noise import BLOCK
from hebm.pipeline import Assembly
from hebm.precision import bf16_note
from hebm.single_layer_energies import advice, single_layer_energies
from hebm.thread_times import ThreadTimes, measured_threads
from hebm.threads import AUTO
from hebm.training.listeners import Listener
from hebm.training.space import require_space
from hebm.trials import copied, timed_steps


@attrs.frozen
class Check:
    """The result of a check; `print` shows it.

    Arguments:
        lines: the text of the check: components with their files, sizes, losses of the first steps, estimated time,
            memory.
        images: a description of the splits of the data set.
        estimate: the estimated time of a run.
        memory: peak memory of the process in bytes; None if the system does not report it.
        notes: warnings about results that will be missing or unreliable, and other messages.
        phases: number of steps of each phase in a run, by name.
        threads: the time of training with one thread and with all; None if only one number is possible.
    """

    lines: tuple[str, ...]
    images: str
    estimate: Estimate
    memory: int | None
    notes: tuple[str, ...]
    phases: Mapping[str, int]
    threads: ThreadTimes | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        found = {
            "notes": list(self.notes),
            "images": self.images,
            "phases": dict(self.phases),
            "estimate": self.estimate.to_json(),
        }
        threads = None if self.threads is None else self.threads.to_json()
        return {**found, "memory_mib": None if self.memory is None else round(self.memory / 2**20), "threads": threads}

    def __str__(self) -> str:
        return "\n".join(self.lines)


def check(experiment: Experiment, say: Callable[[str], None] = lambda line: None) -> Check:
    """Build all parts of an experiment, take a few training steps of every phase, and draw 64 samples.

    Arguments:
        experiment: the experiment to check.
        say: called with each line as soon as it is known.

    Raises the errors that a run would raise: `ConfigError`, `DataError`, `PluginError`, `CheckpointError`,
    `NonFiniteError`.

    Example:
        print(hebm.check(experiment))
    """
    experiment = require_experiment(experiment)
    checking = _Checking(say)
    accelerator = pipeline.make_accelerator(experiment.run)
    assembly = pipeline.assemble(experiment, accelerator.device)
    checking.add(f"{experiment.name}, seed {experiment.seed}, on {accelerator.device}")
    for part in (experiment.data, experiment.backbone, experiment.prior, experiment.train):
        checking.describe(part)
    checking.sizes(assembly)
    for note in assembly.notes:
        checking.said(note)
    require_space(Path("runs"), assembly.checkpoint_bytes, experiment.run.keep + 1)
    checking.lengths = {phase.name: phase.steps for phase in assembly.phases}
    untrained = copied(assembly)
    times = timed_steps(assembly, accelerator, checking)
    threads = measured_threads(untrained, accelerator, times)
    drawing, evaluation = draw_seconds(assembly.model), pipeline.make_evaluation(assembly, accelerator)
    checking.add(f"{BLOCK} samples drawn; evaluation computes {evaluation.rows:,} images at a time")
    checking.advise(assembly)
    checking.compare(threads, experiment.run.threads)
    if experiment.run.mixed_precision == "bf16" and (slow := bf16_note(accelerator.device)):
        checking.said(slow)
    measuring = evaluation_time(evaluation, assembly.plan, drawing)
    steps = min(times.timed.values(), default=0)
    estimate = Estimate(times.seconds, measuring.seconds, steps, measuring.uncounted, measuring.shared)
    checking.add(f"time of a run: {estimate}")
    peak = peak_memory()
    if peak is not None:
        checking.add(f"memory: {peak / 2**20:.0f} MiB at most so far")
    images, notes = described(assembly.images), tuple(checking.notes)
    return Check(tuple(checking.lines), images, estimate, peak, notes, checking.lengths, threads)


class _Checking(Listener):
    """Collects the lines of a check.

    Arguments:
        say: called with each line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.lengths: Mapping[str, int] = {}

    def add(self, line: str) -> None:
        self.lines.append(line)
        self.say(line)

    def describe(self, recipe: Any) -> None:
        """Add a line for a component and each of its nested components, with the file that defines it."""
        for part in components(recipe):
            origin = registry.origin(part.group, part.name)
            place = f"{origin.file}:{origin.line}" if origin.file else str(origin)
            kind = part.group.removeprefix("hebm_").removesuffix("s").replace("energie", "energy")
            self.add(f"{'  ' * part.depth}{kind} {part.name}  {place}")

    def sizes(self, assembly: Assembly) -> None:
        for split, images in assembly.images.items():
            self.add(f"{described({split: images})}, {'x'.join(map(str, images.shape))}")
        layout = assembly.model.backbone.layout
        self.add(f"latents, top first: {', '.join(map(str, layout.shapes))}; D = {layout.dim}")
        for name in ("backbone", "prior"):
            parameters = sum(p.numel() for p in getattr(assembly.model, name).parameters())
            self.add(f"{name}: {parameters:,} parameters")

    def advise(self, assembly: Assembly) -> None:
        """Add a note about the known limits of single-layer energies. Stages must have been started."""
        found = advice(single_layer_energies(assembly.model.prior, assembly.model.backbone.layout))
        if found:
            self.said(found)

    def compare(self, times: ThreadTimes | None, wanted: int | str | None) -> None:
        """Add a line with the faster number of threads, and a note if the run would use a slower one."""
        if times is None:
            return
        self.add(f"threads: {times}")
        if wanted != AUTO and times.best != torch.get_num_threads():
            self.said(f'set run.threads = {times.best}, or "auto", which measures this when a run starts')

    def started(self, phase: str, step: int, steps: int) -> None:
        """Add a line with the number of steps of the phase."""
        self.add(f"phase {phase}: {self.lengths[phase]} steps in a run")

    def logged(self, record: Mapping[str, Any]) -> None:
        """Add a line with the loss of the step."""
        self.add(f"  step {record['step']}: loss {record['loss']:.4g}")

    def said(self, message: str) -> None:
        """Add a message to the notes and the lines."""
        self.notes.append(message)
        self.add(f"note: {message}")
