"""Runs beside each other: which figures may be compared, the table, and the mean over seeds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from hebm.errors import ConfigError, HebmError
from hebm.report.metric_table import Table
from hebm.report.numbers import percent, shown, significant
from hebm.report.page import component
from hebm.runs import open_run
from hebm.store.run_folder import RunFolder

_ALIKE = ("n", "n_reference", "split", "decode", "range")
_NO_PART = ("name", "seed", "run")
_SHARES = ("gap closed", "control")
_FD = {"prior": "FD prior", "gaussian": "FD Gaussian", "reconstruction": "FD recon."}
_BY_PRIOR = {"fid": "FID prior", "kid": "KID prior", "inception_score": "IS prior"}


@attrs.frozen(eq=False)
class Run:
    """A run as it is compared.

    Arguments:
        folder: where it lies.
        config: its resolved configuration, as a table.
        metrics: what evaluation found.
        data: its data set's fingerprint, as text.
    """

    folder: RunFolder
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    data: str

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.path.resolve().name

    @property
    def experiment(self) -> str:
        """What the runs of several seeds have in common."""
        return json.dumps({key: value for key, value in self.config.items() if key not in _NO_PART}, sort_keys=True)

    @property
    def conditions(self) -> dict[str, str]:
        """What must be equal for two runs' figures to mean the same, as text by name."""
        used = self.metrics.get("extractor")
        extractor = f"{used.get('name')} {used.get('sha256')}" if isinstance(used, Mapping) else str(used)
        return {"extractor": extractor, **{k: str(self.metrics.get(k)) for k in _ALIKE}, "data fingerprint": self.data}


def read_run(folder: RunFolder) -> Run:
    """Read a finished run. Raises `CheckpointError` if it is not one or was changed, `HebmError` before evaluation."""
    run = open_run(folder.path).contents
    if run.metrics is None:
        raise HebmError(f"{folder.path} has no metrics.json: it is not evaluated yet; finish it with hebm run")
    return Run(folder, run.table, run.metrics, json.dumps(run.manifest.get("data"), sort_keys=True))


def differing_conditions(runs: Sequence[Run]) -> list[str]:
    """One line for each condition in which the runs differ, with the values of all of them."""
    every = [run.conditions for run in runs]
    differing = [name for name in every[0] if len({found[name] for found in every}) > 1]
    return [
        f"{name}: " + ", ".join(f"{run.name} has {found[name]}" for run, found in zip(runs, every, strict=True))
        for name in differing
    ]


def require_comparable(runs: Sequence[Run]) -> None:
    """Raise `ConfigError` with every condition in which the runs' figures differ."""
    differing = differing_conditions(runs)
    if differing:
        listed = "".join(f"\n  {line}" for line in differing)
        raise ConfigError(
            f"these figures cannot be compared:{listed}\n"
            "evaluate the runs alike (hebm evaluate RUN --set evaluate.samples=…), or look at them with --anyway"
        )


# ---------------------------------------------------------------- the table


def figures_of(run: Run) -> dict[str, float | None]:
    """The numbers of a run by column; shares are of 1."""
    metrics = run.metrics
    found = {"gap closed": metrics.get("gap_closed"), "control": metrics.get("gap_closed_scaled_gaussian")}
    distances = metrics.get("fd") or {}
    found |= {label: distances.get(kind) for kind, label in _FD.items()}
    for name, label in _BY_PRIOR.items():
        entry = (metrics.get(name) or {}).get("prior")
        found[label] = entry.get("mean") if isinstance(entry, Mapping) else entry
    found["bits/dim"] = (metrics.get("likelihood") or {}).get("bits_per_dim")
    found["chain steps"] = metrics.get("chain_steps")
    found["seconds"] = metrics.get("seconds")
    return found


def table(runs: Sequence[Run], exact: bool = False) -> Table:
    """A row a run, and below them mean ± standard deviation of the runs that differ in their seed alone.

    Arguments:
        runs: in the order of the rows.
        exact: for programs: numbers in full, and no row of means.
    """
    rows = [figures_of(run) for run in runs]
    columns = [column for column in rows[0] if any(row[column] is not None for row in rows)]
    header = ("run", "data", "backbone", "prior", "scheme", "seed", *columns)
    body = [
        (run.name, *_what(run), shown(run.config.get("seed")), *(_cell(c, row[c], exact) for c in columns))
        for run, row in zip(runs, rows, strict=True)
    ]
    groups: dict[str, list[Run]] = {}
    for run in () if exact else runs:
        groups.setdefault(run.experiment, []).append(run)
    return Table(header, (*body, *(_mean_row(group, columns) for group in groups.values() if len(group) > 1)))


def _what(run: Run) -> list[str]:
    what = {key: component(run.config, key) for key in ("data", "backbone", "prior", "train")}
    if milestone := run.metrics.get("milestone"):
        what["prior"] += f", {milestone}"
    return list(what.values())


def _mean_row(runs: Sequence[Run], columns: Sequence[str]) -> tuple[str, ...]:
    seeds = {run.config.get("seed") for run in runs}
    cells = []
    for column in columns:
        values = [value for value in (figures_of(run)[column] for run in runs) if value is not None]
        cells.append(_mean_cell(column, values) if len(values) == len(runs) else "–")
    label = f"{len(seeds)} seeds" if len(seeds) > 1 else f"{len(runs)} runs"
    return (f"mean ± sd of {runs[0].name} …", *_what(runs[0]), label, *cells)


def _mean_cell(column: str, values: Sequence[float]) -> str:
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    if column in _SHARES:
        return f"{percent(mean).removesuffix(' %')} ± {percent(deviation)}"
    return f"{significant(mean)} ± {significant(deviation, 2)}"


def _cell(column: str, value: float | None, exact: bool) -> str:
    if exact:
        return "" if value is None else repr(value)
    return percent(value) if column in _SHARES else significant(value)
