"""Make the table of a comparison: sorted rows, means over seeds, best numbers, differences from a baseline."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import attrs

from hebm.evaluation.metric import Measurement
from hebm.report.comparison import FACTS, Run, columns
from hebm.report.control import below_control
from hebm.report.metric_table import Table, head
from hebm.report.numbers import measured, with_deviation, with_interval
from hebm.report.variants import Variant, baseline_called, difference, is_judged, ordered, variants

NUMBERS_FROM = len(FACTS) - 1
"""Index of the first right-aligned column."""

LEGEND = "* the best of its column; † the learned prior does not beat the control."


@attrs.frozen
class ComparedTable(Table):
    """A table with one row per run, followed by mean ± standard deviation of runs that differ only in their seed.

    Arguments:
        first_lines: lines above the table that name learned priors that do not beat the control.
        best: row and column of the best number of each column.
        below: rows of priors that do not beat the control.
        differences: paired differences from the baseline, one row per other variant; None without a baseline.
        words: number of text columns at the left.
    """

    first_lines: tuple[str, ...] = ()
    best: frozenset[tuple[int, int]] = frozenset()
    below: frozenset[int] = frozenset()
    differences: Table | None = None
    words: int = NUMBERS_FROM

    def marked(self, stars: bool = True) -> list[tuple[str, ...]]:
        """Return the rows with a dagger at priors that do not beat the control, and a star at the best numbers.

        Arguments:
            stars: False where the best numbers are shown in another way.
        """
        return [
            tuple(
                cell + ("*" if stars and (i, k) in self.best else "") + (" †" if k == 0 and i in self.below else "")
                for k, cell in enumerate(row)
            )
            for i, row in enumerate(self.rows)
        ]


def table(
    runs: Sequence[Run], chosen: Sequence[Measurement] | None = None, baseline: str | None = None
) -> ComparedTable:
    """Return the table, with the best variants by the main measure first.

    A column's head has two lines: the title; the kind of images and, where there are several, the extractor.

    Arguments:
        runs: the runs to compare.
        chosen: the columns; None for all but details.
        baseline: name of the run or variant from which differences are taken.

    Raises `ConfigError` for an unknown baseline.
    """
    chosen = columns(runs) if chosen is None else chosen
    found = ordered(variants(runs), chosen)
    several = [variant for variant in found if len(variant.runs) > 1]
    singles = [(run, variant) for variant in found for run in variant.runs]
    rows = [(*run.facts(), *(_cell(run.find(column)) for column in chosen)) for run, _ in singles]
    place = {id(variant): i for i, (_, variant) in enumerate(singles)} | {
        id(variant): len(rows) + i for i, variant in enumerate(several)
    }
    below = {i for i, (run, _) in enumerate(singles) if below_control(run.results)}
    below |= {place[id(variant)] for variant in several if below_control(variant.results)}
    return ComparedTable(
        (*FACTS, *(head(column, chosen) for column in chosen)),
        (*rows, *(_mean_row(variant, chosen) for variant in several)),
        tuple(f"{variant.name}: {line}" for variant in found for line in below_control(variant.results)),
        frozenset((place[id(variant)], len(FACTS) + k) for variant, k in best_of(found, chosen)),
        frozenset(below),
        None if baseline is None else differences(found, baseline, chosen),
    )


def _cell(found: Measurement | None) -> str:
    return "–" if found is None else measured(found)


def _mean_row(variant: Variant, chosen: Sequence[Measurement]) -> tuple[str, ...]:
    runs = variant.runs
    seeds = {run.config.get("seed") for run in runs}
    label = f"{len(seeds)} seeds" if len(seeds) > 1 else f"{len(runs)} runs"
    cells = (mean_cell(variant, column) for column in chosen)
    return (f"mean ± sd of {runs[0].name} …", *runs[0].facts()[1:-1], label, *cells)


def mean_cell(variant: Variant, column: Measurement) -> str:
    """Format the mean over seeds ± standard deviation, or the number of a single run ± its standard error."""
    values = variant.values(column)
    if len(variant.runs) == 1 or len(values) < len(variant.runs):
        return _cell(variant.mean(column))
    return with_deviation(statistics.fmean(values), statistics.stdev(values), column.unit)


def best_of(found: Sequence[Variant], chosen: Sequence[Measurement]) -> list[tuple[Variant, int]]:
    """Return the best variants of each column by their mean, with the column's number. Ties are all included."""
    best: list[tuple[Variant, int]] = []
    for k, column in enumerate(chosen):
        means = [(variant, mean.value) for variant in found if (mean := variant.mean(column)) is not None]
        if is_judged(column) and len(means) > 1:
            values = [value for _, value in means]
            top = max(values) if column.better == "higher" else min(values)
            best += [(variant, k) for variant, value in means if value == top]
    return best


# ---------------------------------------------------------------- differences from a baseline


def differences(found: Sequence[Variant], baseline: str, chosen: Sequence[Measurement]) -> Table:
    """Return one row per variant except the baseline: mean paired difference and 95 % interval of each number."""
    own = baseline_called(baseline, found)
    judged = [column for column in chosen if is_judged(column)]
    rows = [
        (variant.name, _pairs(variant, own, judged), *(_difference(variant, own, column) for column in judged))
        for variant in found
        if variant is not own
    ]
    return Table((f"minus {own.name}", "pairs", *(head(column, chosen) for column in judged)), tuple(rows))


def _pairs(variant: Variant, baseline: Variant, judged: Sequence[Measurement]) -> str:
    counts = [found.pairs for column in judged if (found := difference(variant, baseline, column)) is not None]
    return str(max(counts, default=0))


def _difference(variant: Variant, baseline: Variant, column: Measurement) -> str:
    found = difference(variant, baseline, column)
    return "–" if found is None else with_interval(found.mean, found.half, column.unit)


# ---------------------------------------------------------------- a paper's table


def variant_table(runs: Sequence[Run]) -> ComparedTable:
    """Return one row per variant: the settings that differ, and numbers about the prior as mean ± deviation."""
    chosen = [column for column in columns(runs) if is_judged(column) or (column.name == "seconds" and column.part)]
    found = ordered(variants(runs), chosen)
    facts = [variant.runs[0].facts() for variant in found]
    telling = [i for i in range(1, NUMBERS_FROM) if len({fact[i] for fact in facts}) > 1]
    named = len({tuple(fact[i] for i in telling) for fact in facts}) < len(found)
    rows = []
    for variant, fact in zip(found, facts, strict=True):
        words = ([variant.name] if named else []) + [fact[i] for i in telling]
        rows.append((*words, *(mean_cell(variant, column) for column in chosen)))
    words = (["run"] if named else []) + [FACTS[i] for i in telling]
    header = (*words, *(head(column, chosen) for column in chosen))
    best = frozenset((found.index(variant), len(words) + k) for variant, k in best_of(found, chosen))
    below = frozenset(i for i, variant in enumerate(found) if below_control(variant.results))
    return ComparedTable(header, tuple(rows), best=best, below=below, words=len(words))
