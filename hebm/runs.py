"""Open a run: the one way to what it is, what it has learned and what was measured of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

from hebm.config.experiment import Experiment
from hebm.config.paths import Places, located
from hebm.config.writing import dumps
from hebm.errors import CheckpointError, ConfigError
from hebm.evaluate.metrics_file import Results, from_json
from hebm.interfaces import ImageSpec
from hebm.model import Model, build
from hebm.store.changes import config_changes
from hebm.store.checkpoints import Checkpoint, load_latest
from hebm.store.contents import Contents
from hebm.store.provenance import images_of
from hebm.store.run_folder import RunFolder
from hebm.training.phase_run import unfinished
from hebm.training.phases import Phase
from hebm.training.state import Tensors, averaged_weights, load_module


def open_run(path: str | Path, overrides: Sequence[str] = (), warn: Callable[[str], None] = lambda _: None) -> Run:
    """Open a run folder. Its `config.toml`, `manifest.json` and `metrics.json` are read and verified once.

    Arguments:
        path: the folder.
        overrides: `--set` texts, `key=value`; only keys that did not decide the weights may be set.
        warn: told of damaged checkpoints that were passed over.

    Raises `CheckpointError` if it is not a run folder of this format, or one of these files was changed or damaged.

    Example:
        model = open_run("runs/quickstart").model()
    """
    folder = RunFolder(Path(path))
    run = Run(folder, folder.read(), tuple(overrides), warn)
    _ = run.results  # a metrics.json of another shape is an error here, not when it is shown
    return run


@attrs.frozen(eq=False, slots=False)
class Run:
    """A run folder, opened: see `open_run`. Nothing is built or loaded before it is asked for.

    Arguments:
        folder: where it is.
        contents: what its files say.
        overrides: `--set` texts.
        warn: told of damaged checkpoints that were passed over.
    """

    folder: RunFolder
    contents: Contents
    overrides: tuple[str, ...] = ()
    warn: Callable[[str], None] = lambda _: None

    @property
    def manifest(self) -> Mapping[str, Any]:
        """Versions, data fingerprint, machine, history."""
        return self.contents.manifest

    @property
    def run_id(self) -> str:
        """The identity that checkpoints carry."""
        return str(self.manifest["run_id"])

    @cached_property
    def results(self) -> Results | None:
        """What evaluation found, None before it. Raises `CheckpointError` for a file of another schema or shape."""
        found = self.contents.metrics
        return None if found is None else from_json(found, self.folder.metrics)

    @cached_property
    def images(self) -> ImageSpec:
        """What the model knows of its images. Raises `CheckpointError` for a manifest that does not say it."""
        return images_of(self.manifest)

    @cached_property
    def written(self) -> Experiment:
        """The configuration with the overrides, its paths as written.

        Raises `ConfigError` for an override of a key that decided the weights, or a component that is not installed.
        """
        name = str(self.folder.config)
        experiment = Experiment.from_toml(self.contents.config, name, self.overrides)
        if self.overrides:
            changes = config_changes(dumps(Experiment.from_toml(self.contents.config, name)), dumps(experiment))
            if changes:
                what = f"these keys decided what {self.folder.path} was trained to be"
                raise ConfigError(f"--set: {what}; start another run: {changes}")
        return experiment

    @property
    def places(self) -> Places:
        """The files and folders that the configuration names: as written, and the absolute paths that they meant."""
        places: Places = self.manifest.get("paths", {})
        return places

    @property
    def experiment(self) -> Experiment:
        """The configuration with the overrides; its paths lead to where the files are now. Raises `ConfigError`."""
        found: Experiment = located(self.written, self.places)
        return found

    # ------------------------------------------------------------ what it has learned

    def checkpoint(self) -> Checkpoint:
        """Read the newest checkpoint that verifies. Raises `CheckpointError` if there is none."""
        found = load_latest(self.folder.checkpoints, self.run_id, self.warn)
        if found is None:
            raise CheckpointError(f"{self.folder.path} has no checkpoint yet; start it with hebm run")
        return found

    def weights(self) -> Tensors:
        """Read the state dicts "backbone" and "prior", averaged where the run keeps averages.

        Raises `CheckpointError` if there is no usable checkpoint.
        """
        return _weights(self.checkpoint())

    def model(self, device: str = "cpu") -> Model:
        """Build the model with its newest weights, on a device.

        Raises `CheckpointError` if there is no usable checkpoint, `ConfigError` if the model cannot be built.
        """
        model = build(self.experiment, self.images)
        _load(model, self.weights())
        return model.to(device)

    def restore(self, model: Model, phases: Sequence[Phase]) -> float:
        """Give a model of this run its final weights; return the seconds that training took.

        Arguments:
            model: built from this run's configuration.
            phases: all phases of its training, in order.

        Raises `CheckpointError` if training is not complete.
        """
        checkpoint = load_latest(self.folder.checkpoints, self.run_id, self.warn)
        last = phases[-1]
        if checkpoint is None or checkpoint.phase != last.name or unfinished(checkpoint, last):
            done = 0 if checkpoint is None else checkpoint.total_step
            steps = sum(phase.steps for phase in phases)
            raise CheckpointError(
                f"{self.folder.path} has trained {done} of {steps} steps; finish it with hebm run first"
            )
        _load(model, _weights(checkpoint))
        return float(checkpoint.state["seconds"])


def _weights(checkpoint: Checkpoint) -> Tensors:
    return {name: averaged_weights(checkpoint.tensors, name) for name in ("backbone", "prior")}


def _load(model: Model, weights: Tensors) -> None:
    for name, module in (("backbone", model.backbone), ("prior", model.prior)):
        load_module(module, weights[name], name)
