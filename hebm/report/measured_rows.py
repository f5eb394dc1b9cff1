"""Read and write rows of a results table: one JSON file per variant with the measurements of its runs.

{"schema": 1, "name": "priors-mnist-joint", "seeds": [0, 1, 2], "data": "mnist", "prior": "joint", …,
 "measurements": [{"name": "nll", "kind": "prior", "mean": 8.9, "sd": 0.3, "values": [8.6, 8.9, 9.2],
                   "errors": [0.1, 0.1, 0.1], "conditions": {"extractor": "classifier"}, …}, …],
 "conditions": {"n": 5000, "n_reference": 5000, "split": "train", "extractors": {"classifier": {"sha256": "…"}}, …},
 "data_fingerprint": {"train": "…"}, "seconds": {"backbone": [91.2, …], "prior": [180.1, …]},
 "made_with": [{"hebm": "0.1.0", "torch": "2.9.0", "hardware": {"cpus": 2, "gpus": []}, …}], "configuration": {…}}

A value is null if a run lacks the number; mean and sd are then null too. sd is also null for a single run.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

from hebm.errors import ConfigError, PluginError
from hebm.evaluation.metric import Better, Measurement, Scalar
from hebm.evaluation.metrics_file import Results, conditions_of
from hebm.report.comparison import FACTS, Run, columns, differing_conditions
from hebm.report.variants import Variant, variants
from hebm.store.changes import FREE_KEYS, TRAINING_KEYS, only, without
from hebm.store.durable import listed, replace_file, reporting
from hebm.store.json_shapes import ShapeError, damaged, read_json, shaped
from hebm.store.metrics import finite, json_bytes

Values = tuple[float | None, ...]

SCHEMA = 1
ENDING = ".measurements"
"""Ending of the name of a folder with one file per variant."""

_NO_FIGURES = ("chain-steps", "seconds")
_OF_RUNS = ("seed", "versions")
_NUMBERS = ("mean", "sd", "values", "errors")
_OF_NUMBER = ("value", "error", "summary", "note", "detail")


@attrs.frozen(eq=False)
class Figure:
    """A number of a row.

    Arguments:
        measurement: the measurement, whose value is the mean over runs; NaN unless all runs have a number.
        values: the number of each run; None for a run without one.
        errors: standard error of each number; None if unknown.
    """

    measurement: Measurement
    values: Values
    errors: Values

    @property
    def sd(self) -> float | None:
        """Return the standard deviation over runs; None for a single run, or if a run has no number."""
        known = [value for value in self.values if value is not None]
        return statistics.stdev(known) if len(known) == len(self.values) > 1 else None

    def to_json(self) -> dict[str, Any]:
        """Return the number's entry in the file."""
        found = without(self.measurement.to_json(), _OF_NUMBER)
        numbers = {"mean": self.measurement.value, "sd": self.sd, "values": self.values, "errors": self.errors}
        return {**found, **numbers}


@attrs.frozen(eq=False, slots=False)
class Row:
    """The measurements of a variant's runs.

    Arguments:
        name: common part of the names of its runs.
        facts: data, backbone, prior and scheme, by name.
        seeds: seeds of its runs.
        figures: its numbers, without details.
        conditions: conditions of its evaluations, as in `metrics.json`.
        data_fingerprint: fingerprint of its data set.
        seconds: training time of each run, by part.
        made_with: versions and machines.
        configuration: the tables that the weights depend on, without the seed.
    """

    name: str
    facts: Mapping[str, str]
    seeds: tuple[Any, ...]
    figures: tuple[Figure, ...]
    conditions: Mapping[str, Any]
    data_fingerprint: Any
    seconds: Mapping[str, Sequence[float | None]]
    made_with: tuple[Mapping[str, Any], ...]
    configuration: Mapping[str, Any]

    @cached_property
    def results(self) -> Results:
        """Return the means as results of an evaluation."""
        return Results(tuple(figure.measurement for figure in self.figures), self.conditions)

    def required(self, measurement: Measurement) -> dict[str, str]:
        """Return the conditions, as text by name, under which another row's number is comparable with this one."""
        found = {key: str(value) for key, value in self.results.conditions_of(measurement).items()}
        fingerprint = json.dumps(self.data_fingerprint, sort_keys=True)
        return {**found, "unit": measurement.unit, "data fingerprint": fingerprint}

    def to_json(self) -> dict[str, Any]:
        """Return the content of the row's file."""
        found = {
            "schema": SCHEMA,
            "name": self.name,
            **self.facts,
            "seeds": self.seeds,
            "measurements": [figure.to_json() for figure in self.figures],
            **{key: getattr(self, key) for key in ("conditions", "data_fingerprint", "seconds", "made_with")},
            "configuration": self.configuration,
        }
        return dict(finite(found))


# ---------------------------------------------------------------- from runs


def rows_of(runs: Sequence[Run]) -> tuple[Row, ...]:
    """Return one row per variant.

    Raises `ConfigError` if the runs of a variant were measured differently.
    """
    return tuple(_row(variant) for variant in variants(runs))


def _row(variant: Variant) -> Row:
    runs = sorted(variant.runs, key=lambda run: run.config.get("seed") or 0)
    if differing := differing_conditions(runs):
        listed = "".join(f"\n  {line}" for line in differing)
        raise ConfigError(
            f"{variant.name}: its runs were measured differently; evaluate them with the same settings:{listed}"
        )
    first = runs[0]
    return Row(
        variant.row_name,
        dict(zip(FACTS[1:-1], first.facts()[1:-1], strict=True)),
        tuple(run.config.get("seed") for run in runs),
        tuple(_figure(column, runs) for column in columns(runs) if column.name not in _NO_FIGURES),
        without(first.results.conditions, _OF_RUNS),
        json.loads(first.data) if first.data else None,
        {part: [getattr(run.taken, part) for run in runs] for part in ("backbone", "prior")},
        _different([run.made_with for run in runs]),
        _configuration(first.experiment),
    )


def _different(found: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Return the mappings without duplicates."""
    return tuple({json.dumps(one, sort_keys=True): one for one in found}.values())


def _figure(column: Measurement, runs: Sequence[Run]) -> Figure:
    found = [run.find(column) for run in runs]
    values = tuple(None if m is None else m.value for m in found)
    return _of_values(column, values, tuple(None if m is None else m.error for m in found))


def _of_values(measurement: Measurement, values: Values, errors: Values) -> Figure:
    known = [value for value in values if value is not None]
    mean = statistics.fmean(known) if len(known) == len(values) else None
    return Figure(attrs.evolve(measurement, value=mean, error=None, note="", summary=""), values, errors)


def _configuration(experiment: str) -> dict[str, Any]:
    """Return the tables that the weights depend on, without the places of images."""
    return _without_places(only(json.loads(experiment or "{}"), TRAINING_KEYS))


def _without_places(table: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the places of images, also from the configuration of the run that trained the backbone."""
    own = tuple(key.removeprefix("data.") for key in FREE_KEYS)
    found = {key: _without_places(value) if isinstance(value, dict) else value for key, value in table.items()}
    return {**found, "data": without(found["data"], own)} if isinstance(found.get("data"), dict) else found


# ---------------------------------------------------------------- files


def write_rows(runs: Sequence[Run], folder: Path) -> None:
    """Write one file per variant into a folder. Files of other variants stay.

    Raises `ConfigError` if runs of a variant were measured differently, and `CheckpointError` if a file cannot be
    written.
    """
    rows = rows_of(runs)
    with reporting(f"write {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        for row in rows:
            name = row.name.removeprefix(f"{folder.name.removesuffix(ENDING)}-").replace(", ", ".")
            replace_file(folder / f"{name}.json", json_bytes(row.to_json()))


def read_rows(path: Path) -> tuple[Row, ...]:
    """Read the file of a row, or all files of a folder in alphabetical order.

    Raises `ConfigError` if no file is found, and `CheckpointError` for a malformed file.
    """
    with reporting(f"read {path}"):
        files = [file for file in listed(path) if file.match("*.json")] if path.is_dir() else [path]
        missing = not files or not files[0].exists()
    if missing:
        raise ConfigError(f"{path}: measurements not found; `hebm compare RUNS -o NAME{ENDING}` writes such a folder")
    return tuple(_read(file) for file in files)


@attrs.frozen
class _Entry:
    """An entry of `measurements` in a row's file."""

    name: str
    title: str
    mean: float | None
    sd: float | None
    values: Values
    errors: Values
    unit: str = ""
    kind: str | None = None
    part: str = ""
    better: Better | None = None
    conditions: Mapping[str, Scalar] = attrs.field(factory=dict)


@attrs.frozen
class _File:
    """The shape of a row's file."""

    schema: int
    name: str
    data: str
    backbone: str
    prior: str
    scheme: str
    seeds: tuple[int | None, ...]
    measurements: tuple[_Entry, ...]
    conditions: Mapping[str, Any]
    data_fingerprint: Any
    seconds: Mapping[str, Values]
    made_with: tuple[Mapping[str, Any], ...]
    configuration: Mapping[str, Any]


def _read(file: Path) -> Row:
    fix = f"write it again with  hebm compare RUNS -o NAME{ENDING}"
    read = read_json(file, fix)
    with damaged(file, fix):
        if not isinstance(read, dict) or read.get("schema") != SCHEMA:
            found = read.get("schema") if isinstance(read, dict) else None
            raise ShapeError(f"it has schema {found!r}, expected {SCHEMA}")
        return _row_of(shaped(_File, read))


def _row_of(file: _File) -> Row:
    entries = enumerate(file.measurements)
    return Row(
        file.name,
        {fact: getattr(file, fact) for fact in FACTS[1:-1]},
        file.seeds,
        tuple(_figure_of(entry, len(file.seeds), f"measurements[{i}]") for i, entry in entries),
        conditions_of(file.conditions, "conditions"),
        file.data_fingerprint,
        file.seconds,
        file.made_with,
        file.configuration,
    )


def _figure_of(entry: _Entry, runs: int, key: str) -> Figure:
    for name in ("values", "errors"):
        if len(getattr(entry, name)) != runs:
            raise ShapeError(f"{key}.{name} must have an entry for each of the {runs} seeds")
    kept = {field.name: getattr(entry, field.name) for field in attrs.fields(_Entry) if field.name not in _NUMBERS}
    try:
        return _of_values(Measurement(**kept, value=None), entry.values, entry.errors)
    except PluginError as error:
        raise ShapeError(f"{key}: {error}") from error
