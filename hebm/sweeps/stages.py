"""How far each run of a sweep is, told from its folder; and how long the rest will take, told from other runs."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any, Literal

import attrs

from hebm.config.writing import dumps
from hebm.errors import CheckpointError, ConfigError, HebmError
from hebm.store.changes import TRAINING_KEYS, config_changes, only
from hebm.store.run_folder import RunFolder
from hebm.stored_runs import StoredRun, read_run
from hebm.sweeps.planning import PlannedRun

Stage = Literal["new", "unfinished", "trained", "finished"]
"""How far a run is; a run that is trained lacks its measurements, or has others than those asked for."""


def stage_of(run: PlannedRun) -> Stage:
    """Return how far a run is. Keys that are newer than the run have their defaults there.

    Raises `CheckpointError` if its folder is damaged, `ConfigError` if it holds another experiment.
    """
    if not run.folder.started:
        return "new"
    stored = read_run(run.folder.path)
    text, before = dumps(run.experiment), dumps(stored.written)
    if changes := config_changes(before, text):
        listed = "".join(f"\n  {change}" for change in changes)
        raise ConfigError(f"{run.folder.path} holds another experiment; it differs in:{listed}")
    if stored.plan and not stored.reached().finished:
        return "unfinished"
    measured = stored.contents.metrics is not None and run.folder.report.exists()
    return "finished" if measured and before == text else "trained"


def stages_of(planned: Sequence[PlannedRun]) -> dict[str, Stage]:
    """Return how far each run is, by name.

    Raises `ConfigError` with every folder that holds another experiment, or cannot be read.
    """
    found: dict[str, Stage] = {}
    complaints = []
    for run in planned:
        try:
            found[run.name] = stage_of(run)
        except (CheckpointError, ConfigError) as error:
            complaints.append(str(error))
    if complaints:
        fix = "give the sweep another `name`, restore what differs, or remove these folders"
        raise ConfigError("\n".join([*complaints, fix]))
    return found


# ---------------------------------------------------------------- time


@attrs.frozen
class Time:
    """What a finished run took, or a trial expects, in seconds.

    Arguments:
        training: for training.
        evaluation: for everything else.
    """

    training: float
    evaluation: float


def estimates(
    planned: Sequence[PlannedRun], stages: Mapping[str, Stage], tried: Mapping[str, Time] = MappingProxyType({})
) -> dict[str, float | None]:
    """Estimate the seconds that each run will still take, by name; None where neither a run nor a trial tells it.

    A finished run tells it if it differs in nothing but its seed, the run that its backbone is from, and the table
    `run`.

    Arguments:
        planned: the runs; others in the same folders are looked at, too.
        stages: how far each is.
        tried: what trials expect of a whole run, by variant; it counts where no finished run tells it.
    """
    known: dict[str, list[Time]] = {}
    for folder in {run.runs for run in planned}:
        for kind, time in _finished(folder):
            known.setdefault(kind, []).append(time)
    left = {}
    for run in planned:
        trial = [tried[run.variant]] if run.variant in tried else []
        left[run.name] = _left(run, stages[run.name], known.get(_kind(dumps(run.experiment)), trial))
    return left


def _finished(folder: Path) -> Iterator[tuple[str, Time]]:
    for path in sorted(folder.glob("*/metrics.json")):
        try:
            stored = read_run(path.parent)
            config = dumps(stored.written)
        except HebmError:  # another's folder: it tells nothing
            continue
        results = stored.results
        if results is not None and results.seconds is not None and results.seconds_training is not None:
            training = results.seconds_training
            yield _kind(config), Time(training, results.seconds - training)


def _kind(config: str) -> str:
    """Return what runs that take equally long have in common, of a resolved configuration."""
    table: dict[str, Any] = only(tomllib.loads(config), (*TRAINING_KEYS, "evaluate"))
    train = {**table.get("train", {})}
    train["backbone_from"] = "backbone_from" in train
    return json.dumps({**table, "train": train, "seed": None}, sort_keys=True)


def _left(run: PlannedRun, stage: Stage, times: Sequence[Time]) -> float | None:
    if stage == "finished":
        return 0.0
    if not times:
        return None
    training, evaluation = fmean(time.training for time in times), fmean(time.evaluation for time in times)
    if stage == "trained":
        return evaluation
    share = _share_left(read_run(run.folder.path)) if stage == "unfinished" else 1.0
    return share * training + evaluation


def _share_left(stored: StoredRun) -> float:
    steps = sum(stored.plan.values())
    return 1 - stored.reached().total / steps if steps else 1.0


def trained_anyway(folder: RunFolder) -> bool:
    """Return whether a run is trained although its process failed, in its evaluation for example."""
    try:
        stored = read_run(folder.path)
        return not stored.plan or stored.reached().finished
    except HebmError:
        return False
