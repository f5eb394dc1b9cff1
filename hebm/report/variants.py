"""Group runs that differ only in their seed into variants, and compute paired differences from a baseline."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import attrs
from scipy import stats

from hebm.errors import ConfigError
from hebm.evaluation.jackknife import BOUND
from hebm.evaluation.kinds import PRIOR
from hebm.evaluation.metric import Measurement
from hebm.evaluation.metrics_file import Results
from hebm.report.comparison import Run

_CONFIDENCE = 0.975


@attrs.frozen(eq=False)
class Variant:
    """Runs that differ only in their seed.

    Arguments:
        runs: at least one run, in the given order.
    """

    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """The common beginning of its runs' names, without a seed at the end; the full name of a single run."""
        return self.row_name if len(self.runs) > 1 else self.runs[0].name

    @property
    def row_name(self) -> str:
        """The common beginning of its runs' names, without a seed at the end, also for a single run."""
        first, *others = (run.folder_name for run in self.runs)
        seedless = {run.folder_name.removesuffix(f"-{run.config.get('seed')}") for run in self.runs}
        if len(seedless) == 1:
            return ", ".join(filter(None, (seedless.pop(), self.runs[0].evaluation)))
        ends = (i for i, letters in enumerate(zip(first, *others, strict=False)) if len(set(letters)) > 1)
        shared = first[: next(ends, len(first))].rstrip("0123456789-_. ") or first
        return ", ".join(filter(None, (shared, self.runs[0].evaluation)))

    @property
    def results(self) -> Results:
        """Return the mean of each number that all runs have; for a single run its results."""
        if len(self.runs) == 1:
            return self.runs[0].results
        return Results(tuple(found for m in self.runs[0].measurements if (found := self.mean(m)) is not None))

    def values(self, column: Measurement) -> list[float]:
        """Return the numbers of all runs that have one."""
        return [found.value for found in (run.find(column) for run in self.runs) if found is not None]

    def mean(self, column: Measurement) -> Measurement | None:
        """Return the mean over runs, with the only run's standard error; None unless all runs have the number."""
        values = self.values(column)
        if len(values) < len(self.runs):
            return None
        if len(values) == 1:
            return self.runs[0].find(column)
        return attrs.evolve(column, value=statistics.fmean(values), error=None)


def variants(runs: Sequence[Run]) -> list[Variant]:
    """Group runs that differ only in their seed and belong to an evaluation of the same name."""
    same: dict[str, list[Run]] = {}
    for run in runs:
        same.setdefault(run.variant, []).append(run)
    return [Variant(tuple(group)) for group in same.values()]


def ordered(found: Sequence[Variant], columns: Sequence[Measurement]) -> list[Variant]:
    """Sort variants by their mean of the main measure, the best first. Variants without it come last."""
    main = main_measure(columns)
    if main is None:
        return list(found)

    def place(variant: Variant) -> float:
        values = variant.values(main)
        sign = -1.0 if main.better == "higher" else 1.0
        return sign * statistics.fmean(values) if values else float("inf")

    return sorted(found, key=place)


def in_order(runs: Sequence[Run], columns: Sequence[Measurement]) -> list[Run]:
    """Return the runs variant by variant, the best first."""
    return [run for variant in ordered(variants(runs), columns) for run in variant.runs]


def main_measure(columns: Sequence[Measurement]) -> Measurement | None:
    """Return the first number about the learned prior that has a better direction, such as the gap closed."""
    return next((c for c in columns if c.kind == PRIOR and c.better is not None and not c.part), None)


def is_judged(column: Measurement) -> bool:
    """Return whether variants are ranked in a column: it has a better direction, and describes no other images."""
    return column.better is not None and column.kind in (PRIOR, None)


# ---------------------------------------------------------------- differences from a baseline


class Difference(NamedTuple):
    """The mean of paired differences from a baseline, with its 95 % interval.

    Arguments:
        mean: variant − baseline, over pairs.
        half: half of the interval's width; None if unknown.
        pairs: number of pairs of runs.
    """

    mean: float
    half: float | None
    pairs: int


def baseline_called(name: str, found: Sequence[Variant]) -> Variant:
    """Return the variant with this name, with a name that ends in "-NAME", or with a run of this name.

    Raises `ConfigError` with all names if no variant or several match.
    """
    exact = [v for v in found if name == v.name or name in (run.name for run in v.runs)]
    chosen = exact or [v for v in found if v.name.endswith(f"-{name}")]
    if len(chosen) != 1:
        known = ", ".join(v.name for v in found)
        problem = "is the name of several" if chosen else "is not a name"
        raise ConfigError(f"baseline: {name!r} {problem} of the compared runs or variants; choose one of {known}")
    return chosen[0]


def difference(variant: Variant, baseline: Variant, column: Measurement) -> Difference | None:
    """Return the mean paired difference of a variant from the baseline in one number; None without pairs.

    Runs on the same backbone form a pair, or else runs with the same seed. With several pairs the interval is Student's
    t: d̄ ± t sd/√n with n − 1 degrees of freedom. For one pair it follows from both standard errors, as if the runs were
    independent. It is then too wide if they share a backbone or images of the data.
    """
    partners = [(run.find(column), other.find(column)) for run in variant.runs for other in _partner(run, baseline)]
    pairs = [(a, b) for a, b in partners if a is not None and b is not None]
    found = [a.value - b.value for a, b in pairs]
    if not found:
        return None
    return Difference(statistics.fmean(found), _half(found, *pairs[0]), len(found))


def _half(differences: Sequence[float], first: Measurement, second: Measurement) -> float | None:
    n = len(differences)
    if n > 1:
        quantile: float = stats.t.ppf(_CONFIDENCE, n - 1)
        return quantile * statistics.stdev(differences) / math.sqrt(n)
    if first.error is None or second.error is None:
        return None
    return BOUND * math.hypot(first.error, second.error)


def _partner(run: Run, baseline: Variant) -> list[Run]:
    """Return the run of the baseline that is paired with a run, or an empty list."""
    for key in (lambda r: r.backbone, lambda r: str(r.config.get("seed"))):
        found = [other for other in baseline.runs if key(other) and key(other) == key(run)]
        if len(found) == 1:
            return found
    return []
