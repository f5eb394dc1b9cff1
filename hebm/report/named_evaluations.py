"""Tabulate named evaluations next to that of `metrics.json`, for the page of a run."""

from __future__ import annotations

from collections.abc import Mapping

from hebm.evaluation.metric import Key, Measurement
from hebm.evaluation.metrics_file import Results
from hebm.report.metric_table import Table, head
from hebm.report.numbers import measured, shown

OWN = "metrics.json"
"""Heading of the column of the unnamed evaluation."""

_TOLD = ("n", "n_reference", "split", "decode", "chain_steps", "start_proposals", "after", "unfinished")


def side_by_side(own: Results | None, named: Mapping[str, Results]) -> Table:
    """Return a table with one column per evaluation, and one row per differing condition and per measurement.

    Details are left out. Without named evaluations the table is empty.

    Arguments:
        own: the unnamed evaluation; None if the run has none.
        named: the named evaluations.
    """
    every = {**({} if own is None else {OWN: own}), **named}
    if not named:
        return Table(("",), ())
    first: dict[Key, Measurement] = {}
    for results in every.values():
        for measurement in results.measurements:
            if measurement.found and not measurement.detail:
                first.setdefault(measurement.key, measurement)
    among = list(first.values())
    rows = [
        (head(row, among).replace("\n", ", "), *(_cell(results, row) for results in every.values())) for row in among
    ]
    return Table(("", *every), (*_conditions(every), *rows))


def _conditions(every: Mapping[str, Results]) -> list[tuple[str, ...]]:
    found = {key: [results.conditions.get(key) for results in every.values()] for key in _TOLD}
    return [(key.replace("_", " "), *map(shown, values)) for key, values in found.items() if len(set(values)) > 1]


def _cell(results: Results, row: Measurement) -> str:
    found = results.get(*row.key)
    return "–" if found is None else measured(found)
