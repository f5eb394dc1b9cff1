"""Determine the stage of each run of a sweep from its folder, and estimate the remaining time from other runs."""

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
"""The stage of a run. A "trained" run lacks measurements, or has other ones than requested."""


def stage_of(run: PlannedRun) -> Stage:
    """Return the stage of a run. Keys that are newer than the run count as their defaults.

    Raises `CheckpointError` if its folder is damaged, and `ConfigError` if the folder has another experiment.
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
    """Return the stage of each run by name.

    Raises `ConfigError` with all folders that have another experiment or cannot be read.
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
    """Duration of a finished run, or its estimate by a trial, in seconds.

    Arguments:
        training: duration of training.
        evaluation: duration of everything else.
    """

    training: float
    evaluation: float


def estimates(
    planned: Sequence[PlannedRun], stages: Mapping[str, Stage], tried: Mapping[str, Time] = MappingProxyType({})
) -> dict[str, float | None]:
    """Estimate the remaining seconds of each run by name; None if neither a finished run nor a trial provides them.

    A finished run provides an estimate if it differs only in its seed, the run that trained its backbone, and the table
    `run`.

    Arguments:
        planned: the runs; finished runs in the same folders are also used.
        stages: the stage of each run by name.
        tried: estimates of whole runs from trials, by variant, used without a finished run.
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
    """Return the part of a resolved configuration that a run's duration depends on."""
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
    """Return whether a run is trained although its process failed, for example in its evaluation."""
    try:
        stored = read_run(folder.path)
        return not stored.plan or stored.reached().finished
    except HebmError:
        return False
