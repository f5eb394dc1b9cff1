"""Log a run to the experiment trackers of accelerate, such as tensorboard or wandb.

All runs belong to one project (`run.project`). A metric of a phase is named PHASE/METRIC and plotted over the steps of
that phase. Trackers that write files write them to the run's folder.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from PIL import Image

from hebm.config.experiment import Experiment
from hebm.config.writing import to_table
from hebm.errors import ConfigError
from hebm.interfaces import Backbone, PriorLearner
from hebm.store.run_folder import RunFolder
from hebm.suggest import did_you_mean
from hebm.training.listeners import Listener

FOLDER = "trackers"
"""Name of the folder within a run's folder that trackers write to."""

_ONE_AXIS = "wandb"
"""The tracker whose steps must increase. Each phase's step is therefore a separate metric there."""


class Trackers(Listener):
    """Passes metrics and grids of samples to the trackers that the run names.

    Arguments:
        accelerator: the accelerator, created with the trackers.
        experiment: the experiment whose name and configuration are logged.
        folder: the run folder.
        run_id: identity of the run; a tracker that supports resuming resumes the run with this identity.
    """

    def __init__(self, accelerator: Accelerator, experiment: Experiment, folder: RunFolder, run_id: str) -> None:
        self.accelerator, self.folder = accelerator, folder
        place = folder.path / FOLDER
        place.mkdir(parents=True, exist_ok=True)
        config = dict(flat(to_table(experiment)))
        accelerator.init_trackers(experiment.run.project, config, _options(experiment.name, place, run_id))

    def started(self, phase: str, step: int, steps: int) -> None:
        """Define a separate step axis for the phase."""
        for tracker in self.accelerator.trackers:
            if tracker.name == _ONE_AXIS:
                tracker.tracker.define_metric(f"{phase}/*", step_metric=f"{phase}/step")

    def logged(self, record: Mapping[str, Any]) -> None:
        """Log the numbers of a line of metrics.jsonl."""
        phase, step = record["phase"], record["step"]
        numbers = {f"{phase}/{key}": value for key, value in record.items() if isinstance(value, (int, float))}
        for tracker in self.accelerator.trackers:
            tracker.log(numbers, step=None if tracker.name == _ONE_AXIS else step)

    def previewed(self, backbone: Backbone, prior: PriorLearner, total_step: int) -> None:
        """Log the grid of samples that was saved at this step."""
        path = self.folder.samples / f"step-{total_step:08d}.png"
        if path.exists():
            self._images({"samples": path}, total_step)

    def measured(self, values: Mapping[str, float], grids: Mapping[str, Path]) -> None:
        """Log the results of an evaluation.

        Arguments:
            values: measurements by name.
            grids: paths of the image grids by kind.
        """
        for tracker in self.accelerator.trackers:
            tracker.log({f"evaluation/{name}": value for name, value in values.items()})
        self._images({f"evaluation/{kind}": path for kind, path in grids.items() if path.exists()}, None)

    def ended(self) -> None:
        """Finish the trackers, which then write buffered data."""
        for tracker in self.accelerator.trackers:
            tracker.finish()

    def _images(self, paths: Mapping[str, Path], step: int | None) -> None:
        """Log pictures to the trackers that accept images."""
        pictures = {name: np.asarray(Image.open(path).convert("RGB")) for name, path in paths.items()}
        for tracker in self.accelerator.trackers:
            if tracker.name == "tensorboard":
                batches = {name: pixels[None] for name, pixels in pictures.items()}
                tracker.log_images(batches, step=step, dataformats="NHWC")
            elif tracker.name in ("wandb", "swanlab"):
                lists = {name: [pixels] for name, pixels in pictures.items()}
                tracker.log_images(lists, step=None if tracker.name == _ONE_AXIS else step)


def require_installed(names: Iterable[str], installed: Iterable[str]) -> None:
    """Raise `ConfigError` for trackers that are not installed, with the nearest name for a misspelt one."""
    from accelerate.utils import LoggerType

    known, here = [str(one) for one in LoggerType if str(one) != "all"], list(installed)
    for name in names:
        if name not in known:
            raise ConfigError(f"run.trackers: unknown tracker {name!r}{did_you_mean(name, known)} ({', '.join(known)})")
        if name not in here:
            shown = ", ".join(here) or "none"
            raise ConfigError(f"run.trackers: {name!r} is not installed (installed: {shown}); pip install {name}")


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str | int | float | bool]]:
    """Yield the keys of a configuration as dotted names with plain values. Lists become JSON text."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif value is not None:
            plain = isinstance(value, (str, int, float, bool))
            yield f"{prefix}{key}", value if plain else json.dumps(value, default=str)


def _options(name: str, place: Path, run_id: str) -> dict[str, dict[str, Any]]:
    """Return the keyword arguments by which each tracker gets the run's name and folder."""
    return {
        "wandb": {"name": name, "dir": str(place), "id": run_id, "resume": "allow"},
        "swanlab": {"experiment_name": name, "logdir": str(place)},
        "mlflow": {"run_name": name},
        "trackio": {"name": name},
        "dvclive": {"dir": str(place)},
    }
