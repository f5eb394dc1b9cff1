"""Train, open, measure and analyse runs from Python."""

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
from hebm.config.components import type_of
from hebm.config.experiment import Experiment, require_experiment
from hebm.config.overrides import Changes, parse
from hebm.config.recipes import live_fields
from hebm.config.values import show
from hebm.data.dataset_recipe import DatasetRecipe
from hebm.data.decode import Picture
from hebm.errors import ConfigError
from hebm.html import html_table
from hebm.interfaces import BackboneRecipe
from hebm.measurements import Measurements
from hebm.model import Model
from hebm.progress import listener_of
from hebm.report.pictures import sample_pictures
from hebm.stopping import stop_on_signals
from hebm.store.metrics import MetricsLog
from hebm.store.run_folder import RunFolder
from hebm.stored_runs import StoredRun, read_run
from hebm.training.listeners import Listener
from hebm.training.reached import Reached
from hebm.training.run_state import Stopped

LIVE = ("data", "backbone")
"""The tables whose recipes may hold live values, which a run folder does not contain."""

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
    """Train an experiment, or resume it where it stopped, without measuring it.

    The run folder and its checkpoints equal those of `hebm run` bit for bit, and each can resume a run of the other.
    Ctrl-C saves a checkpoint and returns the unfinished run; the next call resumes it. SIGTERM, SIGHUP, SIGUSR1 and
    SIGUSR2 save a checkpoint and end the program.

    Arguments:
        experiment: the experiment to train; its name becomes that of the folder.
        folder: the run folder; `runs/NAME` by default.
        progress: True shows a bar in a terminal or notebook, and lines elsewhere; False shows only messages. Or pass
            your own listener.
        allow_changes: resume even if the configuration, the data or a plugin changed since the run started.
        extend: train the run further, with more steps than it had.

    Raises:
        ConfigError: if parts of the experiment do not fit together, or an argument is wrong.
        DataError: if images cannot be read.
        CheckpointError: if the folder holds another experiment, is in use or cannot be written.
        NonFiniteError: if the loss or gradient is not finite for several steps in a row.

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
        raise ConfigError(f"extend: {store.path} has no run to extend yet; train one without extend first")
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
    """Return the trained run, with the live values and the settings for measuring of this experiment."""
    stored = read_run(path, warn=listener_of(False).said)
    settings = {name: getattr(experiment, name) for name in ("evaluate", "run")}
    changes = {name: value for name, value in settings.items() if getattr(stored.written, name) != value}
    given = {name: getattr(experiment, name) for name in LIVE if live_fields(type(getattr(experiment, name)))}
    return attrs.evolve(stored, changes=changes, given=given)


def open_run(
    path: str | Path,
    *,
    data: DatasetRecipe | None = None,
    backbone: BackboneRecipe | None = None,
    allow_unfinished: bool = False,
    warn: Callable[[str], None] | None = None,
) -> Run:
    """Open a run folder.

    Arguments:
        path: the folder.
        data: the images of a run that was trained on images given in Python, such as `hebm.Tensors(train)`. They are
            needed to measure and analyse the run, not to draw samples.
        backbone: the backbone of a run that was trained on one given in Python, such as `hebm.AutoEncoder(encode,
            decode, latent_shape=(16,))`.
        allow_unfinished: open a run that is not finished, with the weights of its newest checkpoint.
        warn: called with a message about each damaged checkpoint that was skipped; prints to the error stream by
            default.

    Raises `CheckpointError` if it is not a run folder of this format, if a file in it was changed or damaged, or if its
    training is not finished. Raises `DataError` or `ConfigError` if `data` or `backbone` differ from those of the run.

    Example:
        model = hebm.open_run("runs/quickstart").model
    """
    stored = read_run(path, warn=warn or listener_of(False).said, allow_unfinished=allow_unfinished)
    stored.require_finished()
    given = {name: value for name, value in zip(LIVE, (data, backbone), strict=True) if value is not None}
    if given:
        stored = attrs.evolve(stored, given=given)
        _ = stored.written  # raises now if they differ
    return Run(stored)


class Run:
    """A run folder: its experiment, log, measurements and model.

    Arguments:
        stored: the contents of the folder.
    """

    def __init__(self, stored: StoredRun) -> None:
        self.stored = stored

    @property
    def path(self) -> Path:
        """The path of the run folder."""
        return self.stored.folder.path

    @property
    def experiment(self) -> Experiment:
        """The experiment, with paths to where files are now. Raises `ConfigError` for a missing component."""
        return self.stored.experiment

    @property
    def reached(self) -> Reached:
        """The phase and step that training reached."""
        return self.stored.reached()

    @property
    def history(self) -> list[dict[str, Any]]:
        """The training log: a row for each logged step, such as {"phase": "prior", "step": 50, "loss": 1.2}."""
        return MetricsLog(self.stored.folder.metrics_log).read()

    @property
    def measurements(self) -> Measurements | None:
        """The measurements of the run; None before an evaluation."""
        results = self.stored.results
        return None if results is None else Measurements.of_run(self.stored.folder, results)

    @property
    def evaluations(self) -> dict[str, Measurements]:
        """The measurements of named evaluations, by name."""
        return {name: Measurements.of_run(self.stored.folder, found) for name, found in self.stored.evaluations.items()}

    @property
    def report(self) -> Path | None:
        """The path of its report.html; None before an evaluation."""
        page = self.stored.folder.report
        return page if page.exists() else None

    @cached_property
    def model(self) -> Model:
        """The model with the weights of the newest checkpoint, on the CPU; `.to("cuda")` moves it.

        Raises `CheckpointError` if the run has no usable checkpoint.
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
        """Measure the run like `hebm evaluate`, and write its metrics.json and report.html again.

        With a name, the results go to evaluations/NAME.json; metrics.json and the configuration do not change.

        If a metric fails, `results.failures` lists it with its reason, and the other metrics are measured. If all fail,
        or the evaluation is interrupted, earlier measurements and the configuration do not change. The next call reuses
        the features that were computed.

        Arguments:
            changes: values by dotted key, such as `{"evaluate.samples": 50000}`. Only keys of `evaluate` and `run` are
                allowed, since they did not affect the weights. Without `name`, they become part of the run's
                configuration.
            name: the name of this evaluation, of letters, digits, ".", "_" and "-".
            progress: True shows the number of images done where that takes long; False shows nothing. Or pass your own
                listener.
            allow_changes: continue even if the data or a plugin changed since the run started.
            allow_unfinished: measure a run that is not finished; its measurements say so.

        Raises `CheckpointError` for an unfinished run and for changes that are not allowed, and `ConfigError` for wrong
        settings.
        """
        if name is not None and not _NAME.fullmatch(name):
            raise ConfigError(
                f'name: {show(name)} is not allowed; use letters, digits, ".", "_" and "-", such as "k100"'
            )
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
        """Run an analysis like `hebm analyse`, into `analyses/NAME`, and write report.html again.

        Arguments:
            name: the analysis; `hebm plugins --group analyses` lists all.
            changes: values by dotted key: options of the analysis after its name, such as `{"ood.images": 500}`, and
                keys of `evaluate` and `run`.
            progress: True shows the number of images done where that takes long; False shows nothing. Or pass your own
                listener.
            allow_changes: continue even if the data or a plugin changed since the run started.

        Raises `ConfigError` if the analysis does not support this run.
        """
        from hebm.report.page import write_report  # imported here: plotting takes a second to import

        of_run, of_analysis = split_changes(changes)
        recipe = choose([name], of_analysis)[name]
        changed = (*parse(self.stored.changes), *of_run)
        with opened(self.stored, changed, allow_changes, listener_of(progress)) as whole:
            section = analyse(whole, name, recipe)
            write_report(whole.folder)
        return section

    # ------------------------------------------------------------ display

    def show(self) -> Picture:
        """Return a picture of data, reconstructions and samples side by side; before an evaluation, of samples only."""
        return sample_pictures(self.stored.folder) or self.model.show(self.model.sample(_SHOWN))

    def __repr__(self) -> str:
        state = self.reached
        return f"<run {self.path}: {'finished' if state.finished else f'unfinished, at {state}'}>"

    def _repr_html_(self) -> str:
        """Show components, training progress and measurements of the run in a notebook."""
        table, state, found = self.stored.contents.table, self.reached, self.measurements
        what = [(key, type_of(table, key)) for key in ("data", "backbone", "prior", "train")]
        what.append(("seed", str(table.get("seed"))))
        training = "finished" if state.finished else f"unfinished, at {state}"
        page = html_table(str(self.path), [*what, ("training", training)])
        return page if found is None else page + found._repr_html_()
