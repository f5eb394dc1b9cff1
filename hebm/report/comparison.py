"""Compare runs: describe them, check which numbers are comparable, and make tables for programs."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from hebm.analysis.compared_plot import Plot
from hebm.analysis.section import read_sections
from hebm.config.components import type_of
from hebm.config.writing import dumps
from hebm.errors import ConfigError, HebmError
from hebm.evaluation.metric import Key, Measurement
from hebm.evaluation.metrics_file import Results
from hebm.report.compared_plots import by_title
from hebm.report.metric_table import Table, groups
from hebm.report.numbers import shown
from hebm.report.training_seconds import TrainingSeconds, training_seconds
from hebm.store.changes import only, without
from hebm.store.run_folder import RunFolder
from hebm.stored_runs import StoredRun, read_run

FACTS = ("run", "data", "backbone", "prior", "scheme", "seed")
"""Names of the first columns, which describe the run."""

_NO_PART = ("name", "seed", "run", "evaluate")
_DRAWS = ("chain_steps", "start_proposals", "after")
"""Conditions of an evaluation that change the draws. Others only change how draws are measured."""

_MADE_WITH = ("hebm", "plugins", "torch", "python", "platform", "hardware")
"""Entries of the manifest with versions and hardware of the training."""

_UNKNOWN = TrainingSeconds(None, None)


@attrs.frozen(eq=False)
class Run:
    """A run in a comparison.

    Arguments:
        folder: the run folder.
        config: its resolved configuration, as a table.
        results: results of the evaluation.
        data: fingerprint of its data set, as text.
        plots: plots of its analyses that several runs share.
        experiment: the configuration without the parts that depend on the seed, as text.
        backbone: path of the run that trained its backbone, as text.
        taken: training time.
        evaluation: name of the evaluation; "" for that of metrics.json.
        made_with: versions and hardware of the training.
    """

    folder: RunFolder
    config: Mapping[str, Any]
    results: Results
    data: str
    plots: tuple[Plot, ...] = ()
    experiment: str = ""
    backbone: str = ""
    taken: TrainingSeconds = _UNKNOWN
    evaluation: str = ""
    made_with: Mapping[str, Any] = attrs.field(factory=dict)

    @property
    def folder_name(self) -> str:
        """The name of the folder."""
        return self.folder.path.resolve().name

    @property
    def name(self) -> str:
        """The name of the folder, followed by the name of the evaluation if it has one."""
        return ", ".join(filter(None, (self.folder_name, self.evaluation)))

    @property
    def variant(self) -> str:
        """The experiment without the seed, and the conditions of its draws, as text. Equal for runs of one variant."""
        drawn = {key: self.results.conditions.get(key) for key in _DRAWS}
        return json.dumps([self.experiment, self.evaluation, drawn])

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """What its metrics found, and then the length of its chains and the seconds it took.

        The seconds of the backbone are those of the run that trained it, and no part of the run's own seconds then.
        """
        steps = self.results.conditions.get("chain_steps")
        parts = {"": self.results.seconds, "backbone": self.taken.backbone, "prior": self.taken.prior}
        taken = (Measurement("seconds", seconds, "seconds", part=part) for part, seconds in parts.items())
        return *self.results.measurements, Measurement("chain-steps", steps, "chain steps"), *taken

    def find(self, column: Measurement) -> Measurement | None:
        """Return the run's measurement with the same key as another run's; None if it is undefined or missing."""
        return next((found for found in self.measurements if found.key == column.key and found.found), None)

    def facts(self) -> tuple[str, ...]:
        """Return the cells of `FACTS`."""
        what = {key: type_of(self.config, key) for key in ("data", "backbone", "prior", "train")}
        if after := self.results.conditions.get("after"):
            what["prior"] += f", after {after}"
        return self.name, *what.values(), shown(self.config.get("seed"))

    def conditions(self, measurement: Measurement) -> dict[str, str]:
        """Return the conditions, as text by name, under which another run's number is comparable with this one."""
        found = {key: str(value) for key, value in self.results.conditions_of(measurement).items()}
        return {**found, "unit": measurement.unit, "data fingerprint": self.data}


def compared(folder: RunFolder) -> Run:
    """Read an evaluated run.

    Raises `CheckpointError` if it is not a run folder or was changed, or if an analysis is damaged, `HebmError` before
    evaluation.
    """
    run = read_run(folder.path)
    if run.results is None:
        raise HebmError(f"{folder.path} has no metrics.json: it is not evaluated yet; finish it with hebm run")
    data = json.dumps(run.manifest.get("data"), sort_keys=True)
    plots = tuple(plot for section in read_sections(folder.analyses).values() for plot in section.plots)
    experiment = json.dumps(_without_seed(run), sort_keys=True)
    backbone = str((run.backbone_from or folder.path).resolve())
    taken = training_seconds(run, _origin(run))
    made_with = only(run.manifest, _MADE_WITH)
    return Run(folder, run.contents.table, run.results, data, plots, experiment, backbone, taken, made_with=made_with)


def named_evaluations(run: Run) -> list[Run]:
    """Return the run once for each of its named evaluations."""
    found = read_run(run.folder.path).evaluations
    return [attrs.evolve(run, results=results, evaluation=name, plots=()) for name, results in found.items()]


def _origin(run: StoredRun) -> StoredRun | None:
    """Return the run that trained the backbone; None if it is the same run, or its folder cannot be read."""
    try:
        return None if run.backbone_from is None else read_run(run.backbone_from)
    except HebmError:
        return None


def _without_seed(run: StoredRun) -> dict[str, Any]:
    """Return the configuration but for what the runs of several seeds do not share.

    A backbone that was taken from another run counts as what that run trained, where its folder can still be read.
    """
    table = without(_with_defaults(run), _NO_PART)
    train = table.get("train", {})
    if "backbone_from" not in train:
        return table
    origin = _origin(run)
    what: Any = train["backbone_from"]
    if origin is not None:
        what = only(_without_seed(origin), ("data", "backbone", "train"))
    return {**table, "train": {**train, "backbone_from": what}}


def _with_defaults(run: StoredRun) -> Mapping[str, Any]:
    """Return the configuration with defaults for keys that are newer than the run; unchanged if it cannot be read."""
    try:
        return tomllib.loads(dumps(run.written))
    except HebmError:
        return run.contents.table


# ---------------------------------------------------------------- what may be compared


def differing_conditions(runs: Sequence[Run]) -> list[str]:
    """Return one line per condition in which numbers of the same name differ, with the values of all runs."""
    found: dict[str, list[str]] = {}
    for column in columns(runs, details=True):
        for line in _differing(runs, column):
            found.setdefault(line, []).append(column.title)
    for title, plots in by_title({run.name: run.plots for run in runs}).items():
        for line in _unequal([(run, plot.conditions) for run, plot in plots.items()]):
            found.setdefault(line, []).append(title)
    return [f"{line} ({', '.join(dict.fromkeys(titles))})" for line, titles in found.items()]


def _differing(runs: Sequence[Run], column: Measurement) -> list[str]:
    every = [(run, run.results.get(*column.key)) for run in runs]
    return _unequal([(run.name, run.conditions(found)) for run, found in every if found is not None and found.found])


def _unequal(having: Sequence[tuple[str, Mapping[str, str]]]) -> list[str]:
    """Return one line per condition with several values, with the value of each run."""
    lines = []
    for name in dict.fromkeys(name for _, conditions in having for name in conditions):
        values = [(run, conditions.get(name, "none")) for run, conditions in having]
        if len({value for _, value in values}) > 1:
            lines.append(f"{name}: " + ", ".join(f"{run} has {_short(value)}" for run, value in values))
    return lines


def _short(value: str) -> str:
    """Shorten the hashes in a text."""
    return re.sub(r"[0-9a-f]{64}", lambda found: f"{found[0][:12]}…", value)


def require_comparable(runs: Sequence[Run]) -> None:
    """Raise `ConfigError` with all conditions in which the runs' numbers differ."""
    differing = differing_conditions(runs)
    if differing:
        listed = "".join(f"\n  {line}" for line in differing)
        raise ConfigError(
            f"these numbers cannot be compared:{listed}\n"
            "evaluate and analyse the runs with the same settings (hebm evaluate RUN --set evaluate.samples=…, hebm "
            "analyse), or show them with --anyway (anyway=True in Python)"
        )


# ---------------------------------------------------------------- columns


def columns(runs: Sequence[Run], details: bool = False) -> list[Measurement]:
    """Return one measurement per column: all that at least one run has, grouped by name.

    Arguments:
        runs: the runs in the order of rows.
        details: whether to include details.
    """
    of_metrics = [found for run in runs for found in run.results.measurements]
    every = [*of_metrics, *(found for run in runs for found in run.measurements)]
    first: dict[Key, Measurement] = {}
    for measurement in every:
        if measurement.found:
            first.setdefault(measurement.key, measurement)
    found = groups(Results(tuple(first.values())), None if details else False)
    return [measurement for group in found for measurement in group.measurements]


# ---------------------------------------------------------------- for programs


def exact_table(runs: Sequence[Run]) -> Table:
    """Return one row per run with unrounded numbers and details. Columns are named "name.kind.part.extractor"."""
    header, rows = list(FACTS), [list(run.facts()) for run in runs]
    for column in columns(runs, details=True):
        found = [run.find(column) for run in runs]
        fields = ["value"] if all(m is None or m.error is None for m in found) else ["value", "error"]
        for field in fields:
            header.append(".".join(filter(None, (*column.key, "" if field == "value" else field))))
            for row, measurement in zip(rows, found, strict=True):
                number = None if measurement is None else getattr(measurement, field)
                row.append("" if number is None else repr(number))
    return Table(tuple(header), tuple(map(tuple, rows)))


def as_plain(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return all data of the runs in JSON types, one mapping per run."""
    return [
        {
            **dict(zip(FACTS, run.facts(), strict=True)),
            "fingerprint": run.data,
            **run.results.to_json(),
            "plots": [attrs.asdict(plot) for plot in run.plots],
        }
        for run in runs
    ]
