"""Evaluations with a name next to that of `metrics.json`, for the page of a run."""

from __future__ import annotations

from collections.abc import Mapping

from hebm.evaluation.metric import Key, Measurement
from hebm.evaluation.metrics_file import Results
from hebm.report.metric_table import Table, head
from hebm.report.numbers import measured, shown

OWN = "metrics.json"
"""Head of the column of the evaluation without a name."""

_TOLD = ("n", "n_reference", "split", "decode", "chain_steps", "start_proposals", "after", "unfinished")


def side_by_side(own: Results | None, named: Mapping[str, Results]) -> Table:
    """Make a column for each evaluation, and a row for each condition that differs and for each measurement.

    Details are left out; so is everything where no evaluation has a name.

    Arguments:
        own: the evaluation without a name.
        named: the others, by name.
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
