"""Compare rows of a table with committed rows, and test which differences exceed noise.

The noise of a mean over n ≥ 2 seeds is v = max(s²/n, Σ e²/n²), with the standard deviation s over seeds and the
standard errors e of the single numbers. A single seed has no spread over training runs: its noise is max(s², e²) with
the s of the other side, or e² if both sides have one seed. With t = |difference| / √(v + v') and Welch's degrees of
freedom each number gets a p-value. Holm's procedure over all numbers marks significant differences. If nothing has
changed, the probability of any mark is at most 5 %.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import attrs
from scipy import stats

from hebm.errors import ConfigError
from hebm.evaluation.metric import Key, Measurement
from hebm.report.comparison_text import aligned
from hebm.report.measured_rows import Figure, Row
from hebm.report.metric_table import Table, head
from hebm.report.numbers import with_deviation, with_interval
from hebm.report.variants import is_judged
from hebm.store.changes import differing

LEVEL = 0.05
"""Probability of any mark if nothing has changed."""

_DRAWN = ("chain_steps", "start_proposals", "after")


class Noise(NamedTuple):
    """The noise of a difference.

    Arguments:
        deviation: its standard deviation.
        freedom: degrees of freedom of Student's t; infinite if the noise comes from standard errors alone.
    """

    deviation: float
    freedom: float


@attrs.frozen(eq=False)
class Judged:
    """A new number of a row compared with the committed one.

    Arguments:
        row: the row's name.
        new: the new number.
        committed: the committed number.
        reasons: one line for each condition that differs, which makes the numbers not comparable.
        noise: noise of the difference; None if unknown.
        outside: whether the difference exceeds noise; None if unknown or not comparable.
    """

    row: str
    new: Figure
    committed: Figure
    reasons: tuple[str, ...] = ()
    noise: Noise | None = None
    outside: bool | None = None

    @property
    def difference(self) -> float:
        """Return the difference of the means, new − committed."""
        return self.new.measurement.value - self.committed.measurement.value

    @property
    def half(self) -> float | None:
        """Return half the width of the difference's 95 % interval; None if unknown."""
        if self.noise is None:
            return None
        return self.noise.deviation * float(stats.t.ppf(0.975, self.noise.freedom))

    @property
    def p_value(self) -> float:
        """Return the p-value: the probability of a difference at least this large from noise alone."""
        if self.noise is None or not self.noise.deviation:
            return float(self.difference == 0)
        return 2 * float(stats.t.sf(abs(self.difference) / self.noise.deviation, self.noise.freedom))

    @property
    def verdict(self) -> str:
        """Return in words whether the difference exceeds noise."""
        if self.reasons:
            return "not comparable"
        if self.outside is None:
            return "noise unknown"
        better = (self.difference > 0) == (self.new.measurement.better == "higher")
        return f"outside noise: {'better' if better else 'worse'}" if self.outside else "within noise"

    def to_json(self) -> dict[str, Any]:
        """Return the comparison in JSON types. Numbers are means over seeds."""
        keys = dict(zip(("name", "kind", "part", "extractor"), self.new.measurement.key, strict=True))
        numbers = {"new": self.new.measurement.value, "committed": self.committed.measurement.value}
        outcome = {"difference": self.difference, "half": self.half, "outside": self.outside, "verdict": self.verdict}
        return {"row": self.row, **keys, **numbers, **outcome, "reasons": self.reasons}


@attrs.frozen(eq=False, repr=False)
class Against:
    """New rows compared with committed ones. `print` shows one row per number.

    Arguments:
        numbers: the numbers of all rows that both sides have.
        notes: notes on rows that only one side has, and on settings that differ.
    """

    numbers: tuple[Judged, ...]
    notes: tuple[str, ...]

    @property
    def outside(self) -> tuple[Judged, ...]:
        """Return the numbers whose difference exceeds noise."""
        return tuple(number for number in self.numbers if number.outside)

    @property
    def not_comparable(self) -> tuple[str, ...]:
        """Return one line per condition that makes numbers not comparable, with these numbers."""
        found: dict[str, list[str]] = {}
        for number in self.numbers:
            for reason in number.reasons:
                found.setdefault(reason, []).append(f"{number.row}: {_title(number.new.measurement, self._columns)}")
        return tuple(f"{reason} ({'; '.join(which)})" for reason, which in found.items())

    @property
    def table(self) -> Table:
        """Return a table with one row per number: new, committed, difference with its 95 % interval, verdict."""
        header = ("row", "number", "new", "committed", "difference,\n95 % interval", "verdict")
        rows = [
            (n.row, _title(n.new.measurement, self._columns), _cell(n.new), _cell(n.committed), _shown(n), n.verdict)
            for n in self.numbers
        ]
        return Table(header, tuple(rows))

    @property
    def summary(self) -> str:
        """Return a sentence with the number of differences that exceed noise."""
        judged = [number for number in self.numbers if number.outside is not None]
        others = len(self.numbers) - len(judged)
        said = f"{len(self.outside)} of {len(judged)} numbers are outside noise"
        said += f" (by Holm's procedure: where nothing has changed, the chance of any is at most {100 * LEVEL:.0f} %)"
        return said + (f"; {others} could not be judged" if others else "")

    @property
    def _columns(self) -> list[Measurement]:
        return [number.new.measurement for number in self.numbers]

    def __str__(self) -> str:
        return f"{aligned(self.table.header, self.table.rows, 2)}\n{self.summary}"


def held_against(new: Sequence[Row], committed: Sequence[Row], anyway: bool = False) -> Against:
    """Compare rows with committed rows of the same names, in every number that ranks priors.

    Arguments:
        new: the new rows.
        committed: the committed rows.
        anyway: compare numbers even if their conditions differ.

    Raises `ConfigError` if they have no row in common.
    """
    known = {row.name: row for row in committed}
    pairs = [(row, known[row.name]) for row in new if row.name in known]
    if not pairs:
        names = ", ".join(row.name for row in new), ", ".join(known)
        raise ConfigError(f"none of the rows {names[0]} is among those committed: {names[1]}; rows are matched by name")
    numbers = [number for pair in pairs for number in _numbers(*pair, anyway)]
    notes = [f"{row.name} is not among the committed rows" for row in new if row.name not in known]
    notes += [f"{name} is committed, and not among these rows" for name in known if name not in {r.name for r in new}]
    notes += [f"{row.name}: {what}" for row, old in pairs for what in _missing(row, old)]
    notes += [f"{row.name}: another setting: {change}" for row, old in pairs for change in _changes(row, old)]
    if alone := [row.name for row, old in pairs if len(row.seeds) == len(old.seeds) == 1]:
        notes.append(f"one seed on both sides, so standard errors alone are the noise: {', '.join(alone)}")
    return Against(tuple(_marked(numbers)), tuple(notes))


def _numbers(row: Row, old: Row, anyway: bool) -> list[Judged]:
    known, found = _judged(old), []
    for key, new in _judged(row).items():
        if key in known:
            committed = known[key]
            reasons = () if anyway else _reasons(row.required(new.measurement), old.required(committed.measurement))
            found.append(Judged(row.name, new, committed, reasons, None if reasons else noise(new, committed)))
    return found


def _judged(row: Row) -> dict[Key, Figure]:
    """Return the numbers of a row that rank priors, by their keys."""
    return {f.measurement.key: f for f in row.figures if is_judged(f.measurement) and f.measurement.found}


def _missing(row: Row, old: Row) -> list[str]:
    new, committed = _judged(row), _judged(old)
    every = [figure.measurement for figure in (*new.values(), *committed.values())]
    found = [f"{_title(f.measurement, every)} is not measured now" for key, f in committed.items() if key not in new]
    return found + [
        f"{_title(f.measurement, every)} is not committed" for key, f in new.items() if key not in committed
    ]


def _reasons(new: dict[str, str], committed: dict[str, str]) -> tuple[str, ...]:
    names = dict.fromkeys((*new, *committed))
    return tuple(
        f"{name}: {new.get(name, 'none')} now, {committed.get(name, 'none')} committed"
        for name in names
        if new.get(name, "none") != committed.get(name, "none")
    )


def _changes(row: Row, old: Row) -> list[str]:
    """Return the differing settings of training and drawing as "key: committed → new"."""
    drawn = ({key: side.conditions.get(key) for key in _DRAWN} for side in (old, row))
    return [*differing(old.configuration, row.configuration), *differing(*drawn)]


# ---------------------------------------------------------------- noise


def noise(new: Figure, committed: Figure) -> Noise | None:
    """Return the noise of the difference of two means; None without several seeds or standard errors."""
    spreads = [figure.sd for figure in (new, committed) if figure.sd is not None]
    if not spreads:
        errors = new.errors[0], committed.errors[0]
        return None if None in errors else Noise(math.hypot(*(e or 0.0 for e in errors)), math.inf)
    parts = [_variance(figure, max(spreads)) for figure in (new, committed)]
    whole = sum(parts)
    several = [(v, len(f.values) - 1) for v, f in zip(parts, (new, committed), strict=True) if f.sd is not None]
    if len(several) == 1 or not whole:
        return Noise(math.sqrt(whole), several[0][1])
    return Noise(math.sqrt(whole), whole**2 / sum(v**2 / freedom for v, freedom in several))


def _variance(figure: Figure, other: float) -> float:
    """Return the variance of a mean over seeds. For a single seed, use the standard deviation `other`."""
    n, known = len(figure.values), [error for error in figure.errors if error is not None]
    of_errors = statistics.fmean(error**2 for error in known) / n if known else 0.0
    return max((other if figure.sd is None else figure.sd) ** 2 / n, of_errors)


def _marked(numbers: Sequence[Judged]) -> list[Judged]:
    """Mark the numbers outside noise by Holm's procedure.

    The k-th smallest of m p-values must be at most 0.05/(m − k + 1), as must all smaller ones.
    """
    judged = sorted((n for n in numbers if n.noise is not None), key=lambda number: number.p_value)
    outside: set[int] = set()
    for k, number in enumerate(judged):
        if number.p_value > LEVEL / (len(judged) - k):
            break
        outside.add(id(number))
    return [n if n.noise is None else attrs.evolve(n, outside=id(n) in outside) for n in numbers]


# ---------------------------------------------------------------- text


def _title(measurement: Measurement, among: Sequence[Measurement]) -> str:
    return head(measurement, among).replace("\n", ", ")


def _cell(figure: Figure) -> str:
    spread = figure.errors[0] if len(figure.values) == 1 else figure.sd
    return with_deviation(figure.measurement.value, spread, figure.measurement.unit)


def _shown(number: Judged) -> str:
    if number.reasons:
        return "–"
    return with_interval(number.difference, number.half, number.new.measurement.unit)
