"""Runs next to each other: which numbers may be compared, the table, and the mean over seeds."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from hebm.analysis.compared_plot import Plot
from hebm.analysis.section import read_sections
from hebm.errors import ConfigError, HebmError
from hebm.evaluation.kinds import KINDS
from hebm.evaluation.metric import Key, Measurement
from hebm.evaluation.metrics_file import Results
from hebm.report.compared_plots import by_title
from hebm.report.metric_table import Group, Table, groups, label
from hebm.report.numbers import measured, shown, with_deviation
from hebm.report.page import component
from hebm.store.run_folder import RunFolder
from hebm.stored_runs import read_run

FACTS = ("run", "data", "backbone", "prior", "scheme", "seed")
"""The first columns: what a run is."""

_NO_PART = ("name", "seed", "run")


@attrs.frozen(eq=False)
class Run:
    """A run as it is compared.

    Arguments:
        folder: where it is.
        config: its resolved configuration, as a table.
        results: what evaluation found.
        data: its data set's fingerprint, as text.
        plots: what its analyses have for a plot of several runs.
    """

    folder: RunFolder
    config: Mapping[str, Any]
    results: Results
    data: str
    plots: tuple[Plot, ...] = ()

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.path.resolve().name

    @property
    def experiment(self) -> str:
        """What the runs of several seeds have in common."""
        return json.dumps({key: value for key, value in self.config.items() if key not in _NO_PART}, sort_keys=True)

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """What its metrics found, and then the length of its chains and the time it took."""
        steps, seconds = self.results.conditions.get("chain_steps"), self.results.seconds
        taken = Measurement("chain-steps", steps, "chain steps"), Measurement("seconds", seconds, "seconds")
        return *self.results.measurements, *taken

    def find(self, column: Measurement) -> Measurement | None:
        """Return the run's measurement with the same key as another run's; None if there is no number."""
        return next((found for found in self.measurements if found.key == column.key and found.found), None)

    def facts(self) -> tuple[str, ...]:
        """Return the cells of `FACTS`."""
        what = {key: component(self.config, key) for key in ("data", "backbone", "prior", "train")}
        if after := self.results.conditions.get("after"):
            what["prior"] += f", after {after}"
        return self.name, *what.values(), shown(self.config.get("seed"))

    def conditions(self, measurement: Measurement) -> dict[str, str]:
        """Return what must be equal for another run's number to mean the same as this one, as text by name."""
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
    return Run(folder, run.contents.table, run.results, data, plots)


# ---------------------------------------------------------------- what may be compared


def differing_conditions(runs: Sequence[Run]) -> list[str]:
    """Return a line for each condition in which numbers of the same name differ, with the values of all runs."""
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
    """Return a line for each condition that has several values, with the value of each run."""
    lines = []
    for name in dict.fromkeys(name for _, conditions in having for name in conditions):
        values = [(run, conditions.get(name, "none")) for run, conditions in having]
        if len({value for _, value in values}) > 1:
            lines.append(f"{name}: " + ", ".join(f"{run} has {_short(value)}" for run, value in values))
    return lines


def _short(value: str) -> str:
    """Return text with the beginnings of its hashes."""
    return re.sub(r"[0-9a-f]{64}", lambda found: f"{found[0][:12]}…", value)


def require_comparable(runs: Sequence[Run]) -> None:
    """Raise `ConfigError` with every condition in which the runs' numbers differ."""
    differing = differing_conditions(runs)
    if differing:
        listed = "".join(f"\n  {line}" for line in differing)
        raise ConfigError(
            f"these numbers cannot be compared:{listed}\n"
            "evaluate and analyse the runs alike (hebm evaluate RUN --set evaluate.samples=…, hebm analyse), or show "
            "them with --anyway (anyway=True in Python)"
        )


# ---------------------------------------------------------------- the table


def columns(runs: Sequence[Run], details: bool = False) -> list[Measurement]:
    """Return a measurement for each column: all that some run has a number for, grouped by name.

    Arguments:
        runs: in the order of the rows.
        details: whether details get columns too.
    """
    of_metrics = [found for run in runs for found in run.results.measurements]
    every = [*of_metrics, *(found for run in runs for found in run.measurements)]
    first: dict[Key, Measurement] = {}
    for measurement in every:
        if measurement.found:
            first.setdefault(measurement.key, measurement)
    found = groups(Results(tuple(first.values())), None if details else False)
    return [measurement for group in found for measurement in group.measurements]


def table(runs: Sequence[Run], chosen: Sequence[Measurement] | None = None) -> Table:
    """Make a row for each run, and below them mean ± standard deviation of runs that differ only in their seed.

    A column's head has two lines: the title; the kind of images and, where there are several, the extractor.

    Arguments:
        runs: in the order of the rows.
        chosen: the columns; all but details if left out.
    """
    chosen = columns(runs) if chosen is None else chosen
    same: dict[str, list[Run]] = {}
    for run in runs:
        same.setdefault(run.experiment, []).append(run)
    means = [_mean_row(group, chosen) for group in same.values() if len(group) > 1]
    rows = [(*run.facts(), *(_cell(run, column) for column in chosen)) for run in runs]
    return Table((*FACTS, *(_head(column, chosen) for column in chosen)), (*rows, *means))


def _head(column: Measurement, chosen: Sequence[Measurement]) -> str:
    kind = KINDS[column.kind].title if column.kind else ""
    return "\n".join(filter(None, (Group((column,)).heading, ", ".join(filter(None, (kind, label(column, chosen)))))))


def _cell(run: Run, column: Measurement) -> str:
    found = run.find(column)
    return "–" if found is None else measured(found)


def _mean_row(runs: Sequence[Run], chosen: Sequence[Measurement]) -> tuple[str, ...]:
    seeds = {run.config.get("seed") for run in runs}
    cells = []
    for column in chosen:
        values = [found.value for found in (run.find(column) for run in runs) if found is not None]
        cells.append(_mean_cell(column, values) if len(values) == len(runs) else "–")
    label = f"{len(seeds)} seeds" if len(seeds) > 1 else f"{len(runs)} runs"
    return (f"mean ± sd of {runs[0].name} …", *runs[0].facts()[1:-1], label, *cells)


def _mean_cell(column: Measurement, values: Sequence[float]) -> str:
    return with_deviation(statistics.fmean(values), statistics.stdev(values), column.unit)


# ---------------------------------------------------------------- for programs


def exact_table(runs: Sequence[Run]) -> Table:
    """Make a row for each run with numbers in full, details too; columns are named "name.kind.part.extractor"."""
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
    """Return everything about the runs as plain JSON values, one mapping for each run."""
    return [
        {
            **dict(zip(FACTS, run.facts(), strict=True)),
            "fingerprint": run.data,
            **run.results.to_json(),
            "plots": [attrs.asdict(plot) for plot in run.plots],
        }
        for run in runs
    ]
