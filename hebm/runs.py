"""A run as its user handles it: train one, open one, measure it, look at it."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

from hebm import locked_runs, pipeline
from hebm.analysis.running import analyse, choose, opened, split_changes
from hebm.analysis.section import Section
from hebm.config.experiment import Experiment, require_experiment
from hebm.config.overrides import Changes, parse
from hebm.config.recipes import live_fields
from hebm.config.values import show
from hebm.data.dataset_recipe import DatasetRecipe
from hebm.data.decode import Picture
from hebm.errors import ConfigError
from hebm.html import html_table
from hebm.measurements import Measurements
from hebm.model import Model
from hebm.progress import listener_of
from hebm.report.page import component, write_report
from hebm.report.pictures import sample_pictures
from hebm.stopping import stop_on_signals
from hebm.store.metrics import MetricsLog
from hebm.store.run_folder import RunFolder
from hebm.stored_runs import StoredRun, read_run
from hebm.training.listeners import Listener
from hebm.training.reached import Reached
from hebm.training.run_state import Stopped

_SHOWN = 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def train(
    experiment: Experiment,
    folder: str | Path | None = None,
    *,
    progress: bool | Listener = True,
    allow_changes: bool = False,
    extend: bool = False,
) -> Run:
    """Train an experiment, or resume it where it stopped; nothing is measured.

    The folder, its checkpoints and every bit in them are those of `hebm run`, which can go on with them, and the other
    way round. Ctrl-C saves a checkpoint and returns the unfinished run; the next call resumes it. SIGTERM, SIGHUP,
    SIGUSR1 and SIGUSR2 save a checkpoint and end the program.

    Arguments:
        experiment: what to train; it takes the folder's name.
        folder: the run folder; `runs/NAME` when left out.
        progress: True shows a bar in a terminal and in a notebook, and lines elsewhere; False shows nothing but
            messages; or a listener of your own.
        allow_changes: resume although the configuration, the data or a plugin changed since the run started.
        extend: train a run further, with more steps than it had.

    Raises:
        ConfigError: if something does not fit.
        DataError: if images cannot be read.
        CheckpointError: if the folder holds another experiment, is in use or cannot be written.
        NonFiniteError: after several steps in a row whose loss or gradient is not finite.

    Example:
        run = hebm.train(hebm.Experiment.load("benchmarks/quickstart.toml"), "runs/demo")
    """
    experiment = require_experiment(experiment)
    if folder is not None and not isinstance(folder, (str, Path)):
        raise ConfigError(f"folder: expected a path, got {show(folder)}; changes of keys go into hebm.Experiment.load")
    listener = listener_of(progress)
    store = RunFolder(Path("runs") / experiment.name if folder is None else Path(folder))
    experiment = attrs.evolve(experiment, name=store.path.resolve().name)  # type: ignore[misc]
    if extend and not store.started:
        raise ConfigError(f"extend: {store.path} has no run to extend yet; train one without it first")
    accelerator = pipeline.make_accelerator(experiment.run, store.path)
    places = read_run(store.path).places if store.started else None
    assembly = pipeline.assemble(experiment, accelerator.device, places, measured=False)
    say = listener.said if extend else None
    with locked_runs.locked_for_training(store, assembly, accelerator, allow_changes, say) as (run_id, stage):
        if stage != "measured":
            try:
                with stop_on_signals() as stop:
                    pipeline.train(assembly, store, run_id, accelerator, listener, stop)
            except Stopped as stopped:
                listener.said(str(stopped))
                if stopped.signal != signal.SIGINT:
                    sys.exit(128 + stopped.signal)
    return Run(_stored(store.path, experiment))


def _stored(path: Path, experiment: Experiment) -> StoredRun:
    """Return the run that was trained here, with the images that came from Python and the settings to measure it by."""
    stored = read_run(path, warn=listener_of(False).said)
    settings = {name: getattr(experiment, name) for name in ("evaluate", "run")}
    changes = {name: value for name, value in settings.items() if getattr(stored.written, name) != value}
    data = experiment.data if live_fields(type(experiment.data)) else None
    return attrs.evolve(stored, changes=changes, data=data)


def open_run(
    path: str | Path,
    *,
    data: DatasetRecipe | None = None,
    allow_unfinished: bool = False,
    warn: Callable[[str], None] | None = None,
) -> Run:
    """Open a run folder.

    Arguments:
        path: the folder.
        data: the images of a run whose images came from Python, such as `hebm.Tensors(train)`; they are needed to
            measure and analyse it, not to draw samples.
        allow_unfinished: open a run whose training is not over, with the weights of its newest checkpoint.
        warn: told of damaged checkpoints that were passed over; printed to the error stream when left out.

    Raises `CheckpointError` if it is not a run folder of this format, one of its files was changed or damaged, or its
    training is not over. Raises `DataError` for images that are not the run's.

    Example:
        model = hebm.open_run("runs/quickstart").model
    """
    stored = read_run(path, warn=warn or listener_of(False).said, allow_unfinished=allow_unfinished)
    stored.require_finished()
    if data is not None:
        stored = attrs.evolve(stored, data=data)
        _ = stored.written  # other images are an error now
    return Run(stored)


class Run:
    """A run folder: its experiment, its log, what was measured of it, and its model.

    Arguments:
        stored: the folder as it was read.
    """

    def __init__(self, stored: StoredRun) -> None:
        self.stored = stored

    @property
    def path(self) -> Path:
        """The path of the run folder."""
        return self.stored.folder.path

    @property
    def experiment(self) -> Experiment:
        """The experiment; its paths lead to where the files are now. Raises `ConfigError` for a missing component."""
        return self.stored.experiment

    @property
    def reached(self) -> Reached:
        """How far training has come."""
        return self.stored.reached()

    @property
    def history(self) -> list[dict[str, Any]]:
        """What training logged: a row for each logged step, such as {"phase": "prior", "step": 50, "loss": 1.2}."""
        return MetricsLog(self.stored.folder.metrics_log).read()

    @property
    def measurements(self) -> Measurements | None:
        """What was measured of it; None before an evaluation."""
        results = self.stored.results
        return None if results is None else Measurements.of_run(self.stored.folder, results)

    @property
    def evaluations(self) -> dict[str, Measurements]:
        """What evaluations with a name found, by name."""
        return {name: Measurements.of_run(self.stored.folder, found) for name, found in self.stored.evaluations.items()}

    @property
    def report(self) -> Path | None:
        """The path of its page, report.html; None before an evaluation."""
        page = self.stored.folder.report
        return page if page.exists() else None

    @cached_property
    def model(self) -> Model:
        """The model with the weights of the newest checkpoint, on the CPU; `.to("cuda")` moves it.

        Raises `CheckpointError` if there is no usable checkpoint.
        """
        return self.stored.build_model()

    # ------------------------------------------------------------ measure and analyse

    def evaluate(
        self,
        changes: Changes = (),
        *,
        name: str | None = None,
        progress: bool | Listener = True,
        allow_changes: bool = False,
        allow_unfinished: bool = False,
    ) -> Measurements:
        """Measure the run, as `hebm evaluate` does; its metrics.json and report.html are written again.

        With a name the results go to evaluations/NAME.json instead, and metrics.json and the configuration stay.

        A metric that fails is among `results.failures` with its reason, and the others are measured. If all fail, or it
        is interrupted, the measurements before it and the configuration stay as they were; the next call goes on from
        the features that were computed.

        Arguments:
            changes: values by dotted key, such as `{"evaluate.samples": 50000}`; keys of `evaluate` and `run`, which
                did not decide the weights. They become part of the run's configuration, unless there is a name.
            name: of this evaluation; letters, digits, ".", "_" and "-".
            progress: True shows how many images are done where that takes long; False shows nothing; or a listener.
            allow_changes: go on although the data or a plugin changed since the run started.
            allow_unfinished: measure a run whose training is not over; its measurements say so.

        Raises `CheckpointError` for an unfinished run and for changes that are not allowed, `ConfigError` for what does
        not fit.
        """
        if name is not None and not _NAME.fullmatch(name):
            raise ConfigError(f'name: {show(name)} may have letters, digits, ".", "_" and "-"; such as "k100"')
        stored = attrs.evolve(
            self.stored,
            contents=self.stored.folder.read(),
            changes=(*parse(self.stored.changes), *parse(changes)),
            allow_unfinished=allow_unfinished or self.stored.allow_unfinished,
        )
        settings, listener = stored.written.run, listener_of(progress)
        accelerator = pipeline.make_accelerator(settings, self.path)
        with locked_runs.locked_when_finished(stored, accelerator, allow_changes) as found:
            results = pipeline.measure(
                found.assembly, stored.folder, accelerator, found.seconds, found.unfinished, name, listener
            )
        left = () if name is None else self.stored.changes
        self.stored = attrs.evolve(self.stored, contents=self.stored.folder.read(), changes=left)
        return Measurements.of_run(self.stored.folder, results)

    def analyse(
        self, name: str, changes: Changes = (), *, progress: bool | Listener = True, allow_changes: bool = False
    ) -> Section:
        """Run an analysis, as `hebm analyse` does, into `analyses/NAME`; report.html is written again.

        Arguments:
            name: of the analysis; `hebm plugins --group analyses` lists them.
            changes: values by dotted key: options of the analysis after its name, such as `{"ood.images": 500}`, and
                keys of `evaluate` and `run`.
            progress: True shows how many images are done where that takes long; False shows nothing; or a listener.
            allow_changes: go on although the data or a plugin changed since the run started.

        Raises `ConfigError` if the analysis does not support this run.
        """
        of_run, of_analysis = split_changes(changes)
        recipe = choose([name], of_analysis)[name]
        changed = (*parse(self.stored.changes), *of_run)
        with opened(self.stored, changed, allow_changes, listener_of(progress)) as whole:
            section = analyse(whole, name, recipe)
            write_report(whole.folder)
        return section

    # ------------------------------------------------------------ display

    def show(self) -> Picture:
        """Draw data, reconstructions and samples next to each other; of a run that was not evaluated, its samples."""
        return sample_pictures(self.stored.folder) or self.model.show(self.model.sample(_SHOWN))

    def __repr__(self) -> str:
        state = self.reached
        return f"<run {self.path}: {'finished' if state.finished else f'unfinished, at {state}'}>"

    def _repr_html_(self) -> str:
        """Show what the run is, how far it is and what was measured, in a notebook."""
        table, state, found = self.stored.contents.table, self.reached, self.measurements
        what = [(key, component(table, key)) for key in ("data", "backbone", "prior", "train")]
        what.append(("seed", str(table.get("seed"))))
        training = "finished" if state.finished else f"unfinished, at {state}"
        page = html_table(str(self.path), [*what, ("training", training)])
        return page if found is None else page + found._repr_html_()
