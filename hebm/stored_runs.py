"""Read a run folder: configuration, weights and measurements of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

import hebm
from hebm.building import build
from hebm.config.components import distributions
from hebm.config.experiment import Experiment
from hebm.config.live_values import given_live
from hebm.config.overrides import Changes
from hebm.config.paths import ABSOLUTE, Places, located
from hebm.config.writing import dumps, to_table
from hebm.errors import CheckpointError, ConfigError
from hebm.evaluation.metrics_file import Results, from_json
from hebm.interfaces import ImageSpec
from hebm.kept_adaptations import KeptAdaptations
from hebm.model import Model
from hebm.store import sums
from hebm.store.changes import config_changes
from hebm.store.checkpoints import Checkpoint, load_latest, newest_head
from hebm.store.contents import Contents
from hebm.store.json_shapes import damaged
from hebm.store.provenance import images_of, versions_of
from hebm.store.run_folder import RunFolder
from hebm.training.reached import Reached, reached
from hebm.training.state import Tensors, averaged_weights, load_module

Warn = Callable[[str], None]


def read_run(
    path: str | Path, changes: Changes = (), warn: Warn = lambda _: None, allow_unfinished: bool = False
) -> StoredRun:
    """Read a run folder, and verify its `config.toml`, `manifest.json` and `metrics.json` once.

    Arguments:
        path: the folder.
        changes: values by dotted key, or `--set` texts. Keys that affected the weights cannot be changed.
        warn: called with a message about each damaged checkpoint that was skipped.
        allow_unfinished: accept a run whose training is not finished.

    Raises `CheckpointError` if it is not a run folder of this format, or one of these files was changed or damaged.
    """
    folder = RunFolder(Path(path))
    run = StoredRun(folder, folder.read(), changes, warn, allow_unfinished)
    _ = run.results, run.evaluations  # raises here if a file has another structure
    return run


@attrs.frozen(eq=False, slots=False)
class StoredRun:
    """A run folder read by `read_run`. Models and weights are built and loaded only when needed.

    Arguments:
        folder: the run folder.
        contents: the contents of its files.
        changes: changes of its configuration.
        warn: called with a message about each damaged checkpoint that was skipped.
        allow_unfinished: accept a run whose training is not finished.
        given: recipes given in Python, by the name of their table: the images or the backbone of a run that was made
            from live values.
    """

    folder: RunFolder
    contents: Contents
    changes: Changes = ()
    warn: Warn = lambda _: None
    allow_unfinished: bool = False
    given: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The manifest: versions, data fingerprint, machine and history."""
        return self.contents.manifest

    @property
    def run_id(self) -> str:
        """The identity of the run, which its checkpoints store."""
        return str(self.manifest["run_id"])

    @cached_property
    def results(self) -> Results | None:
        """The results of evaluation; None before it. Raises `CheckpointError` for a file with another schema."""
        found = self.contents.metrics
        return None if found is None else from_json(found, self.folder.metrics)

    @cached_property
    def evaluations(self) -> Mapping[str, Results]:
        """The results of named evaluations. Raises `CheckpointError` for a file with another schema."""
        path = self.folder.path
        found = self.contents.evaluations.items()
        return {name: from_json(read, path / sums.evaluation_file(name)) for name, read in found}

    @cached_property
    def images(self) -> ImageSpec:
        """The properties of the images. Raises `CheckpointError` if the manifest does not state them."""
        with damaged(self.folder.manifest, "put back a good copy"):
            return images_of(self.manifest)

    @cached_property
    def written(self) -> Experiment:
        """The configuration with the changes, and with paths as written.

        Raises `ConfigError` for a change of a key that affected the weights, or a component that is not installed.
        """
        name = str(self.folder.config)
        experiment = Experiment.from_toml(self.contents.config, name, self.changes)
        if self.changes:
            before = Experiment.from_toml(self.contents.config, name)
            if differing := config_changes(dumps(before), dumps(experiment)):
                what = f"these keys affected the training of {self.folder.path} and cannot be changed"
                raise ConfigError(f"{what}; train another run: {'; '.join(differing)}")
        return given_live(experiment, self.given)

    @property
    def places(self) -> Places:
        """The files and folders in the configuration: the paths as written, and the absolute paths at the start."""
        places: Places = self.manifest.get("paths", {})
        return places

    @property
    def backbone_from(self) -> Path | None:
        """The folder of the run whose backbone this run loaded; None if it trained its own backbone."""
        given = self.contents.table.get("train", {}).get("backbone_from")
        return None if given is None else Path(self.places.get("train.backbone_from", {}).get(ABSOLUTE, given))

    @property
    def experiment(self) -> Experiment:
        """The configuration with the changes, and with paths to where files are now. Raises `ConfigError`."""
        found: Experiment = located(self.written, self.places)
        return found

    # ------------------------------------------------------------ training and weights

    def reached(self, passed_over: Warn = lambda _: None) -> Reached:
        """Return how far training got. Raises `CheckpointError` if the folder does not state it.

        Arguments:
            passed_over: called with a message about each newer checkpoint that is damaged.
        """
        return reached(self.plan, newest_head(self.folder.checkpoints, self.run_id, passed_over))

    @property
    def plan(self) -> Mapping[str, int]:
        """The maximum number of steps of each phase, by name; empty if the folder does not state it."""
        plan: Mapping[str, int] = self.manifest.get("phases", {})
        return plan

    def require_finished(self, checkpoint: Checkpoint | None = None) -> None:
        """Raise `CheckpointError` if training is not finished, unless unfinished runs are accepted.

        Arguments:
            checkpoint: the checkpoint whose weights are used; the newest by default.
        """
        damaged: list[str] = []
        newest = self.reached(damaged.append)
        state = newest if checkpoint is None else reached(self.plan, checkpoint)
        if state.finished or self.allow_unfinished:
            return
        fix = "finish it with hebm run"
        lost = f", and newer checkpoints are damaged ({'; '.join(damaged)}): put back good copies" if damaged else ""
        if not state.total:
            raise CheckpointError(f"{self.folder.path} has no checkpoint yet{lost}; {fix}")
        raise CheckpointError(
            f"{self.folder.path} is unfinished: it is at {state}{lost}; {fix}, or use its current weights: "
            "allow_unfinished=True in Python, --allow-unfinished on the command line, train.allow_unfinished = true "
            "next to train.backbone_from"
        )

    def checkpoint(self) -> Checkpoint:
        """Return the newest intact checkpoint. Raises `CheckpointError` if there is none, or if it is unfinished."""
        found = load_latest(self.folder.checkpoints, self.run_id, self.warn)
        if found is None:
            raise CheckpointError(f"{self.folder.path} has no checkpoint yet; continue it with hebm run")
        self.require_finished(found)
        return found

    def weights(self) -> Tensors:
        """Return the state dicts "backbone" and "prior", averaged if the run keeps averages.

        Raises `CheckpointError` without a usable checkpoint.
        """
        return _weights(self.checkpoint())

    def build_model(self, device: str = "cpu") -> Model:
        """Return the model with its newest weights, on a device.

        Raises `CheckpointError` without a usable checkpoint, and `ConfigError` if the model cannot be built.
        """
        model = build(self.experiment, self.images)
        _load(model, self.weights())
        model.kept = self._kept()
        return model.to(device)

    def restore(self, model: Model) -> Checkpoint:
        """Load the newest weights into a model of this run; return their checkpoint.

        Arguments:
            model: a model built from this run's configuration.

        Raises `CheckpointError` without a usable checkpoint.
        """
        checkpoint = self.checkpoint()
        _load(model, _weights(checkpoint))
        model.kept = self._kept()
        return checkpoint

    def _kept(self) -> KeptAdaptations:
        """Return the file of adapted step sizes, for this configuration and versions."""
        return KeptAdaptations(self.folder.adaptations, self.identity)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything besides weights that the model's results depend on, as JSON values: configuration and versions."""
        written = self.written
        versions = {"hebm": hebm.__version__, **versions_of(distributions(written))}
        return {"backbone": to_table(written.backbone), "prior": to_table(written.prior), "versions": versions}

    def unfinished(self, checkpoint: Checkpoint) -> str:
        """Return the phase and step of a checkpoint, or "" if it is the end of training."""
        state = reached(self.plan, checkpoint)
        return "" if state.finished else str(state)


def _weights(checkpoint: Checkpoint) -> Tensors:
    return {name: averaged_weights(checkpoint.tensors, name) for name in ("backbone", "prior")}


def _load(model: Model, weights: Tensors) -> None:
    for name, module in (("backbone", model.backbone), ("prior", model.prior)):
        load_module(module, weights[name], name)
