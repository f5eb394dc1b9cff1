"""Run all runs of a sweep, and compare them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from hebm.comparing import Comparison, compare
from hebm.config.overrides import Changes
from hebm.config.sweep_file import Sweep
from hebm.errors import ConfigError, HebmError
from hebm.estimates import duration
from hebm.progress import listener_of
from hebm.report.measured_rows import ENDING, Row
from hebm.sweeps.planning import PlannedRun, plan
from hebm.sweeps.processes import LOG, Ended, Processes, last_error
from hebm.sweeps.stages import Stage, estimates, stages_of
from hebm.sweeps.trials import Trials, alone, first_of_each, timed

if TYPE_CHECKING:
    from hebm.checking import Check


@attrs.frozen(eq=False, repr=False)
class SweepPlan:
    """The planned runs of a sweep. `print` lists them with the runs that they need and their remaining time.

    Arguments:
        sweep: the content of the sweep file.
        runs: the folder of run folders.
        planned: the runs, each after the one that trains its backbone.
        stages: the stage of each run by name.
    """

    sweep: Sweep
    runs: Path
    planned: tuple[PlannedRun, ...]
    stages: dict[str, Stage]

    @classmethod
    def of(cls, sweep: Sweep, runs: str | Path = "runs") -> SweepPlan:
        """Plan a sweep.

        Raises `ConfigError` with all invalid changes of keys, or all folders with another experiment.
        """
        planned = plan(sweep, runs)
        return cls(sweep, Path(runs), planned, stages_of(planned))

    @property
    def page(self) -> Path:
        """Return the path of the page that compares the runs."""
        return self.runs / f"{self.sweep.name}.html"

    @property
    def measurements(self) -> Path:
        """Return the path of the folder with one file of measurements per variant."""
        return self.runs / f"{self.sweep.name}{ENDING}"

    def require_common(self, committed: Sequence[Row]) -> None:
        """Raise `ConfigError` if earlier measurements have no row for any variant of this sweep."""
        own = {f"{self.sweep.name}-{run.variant}" for run in self.planned}
        if own.isdisjoint(row.name for row in committed):
            known = ", ".join(row.name for row in committed)
            raise ConfigError(f"--against: none of the rows {known} is one of this sweep: {', '.join(sorted(own))}")

    def seconds_left(self, trials: Trials | None = None) -> dict[str, float | None]:
        """Return the remaining time of each run by name; None if neither a finished run nor a trial provides it."""
        return estimates(self.planned, self.stages, {} if trials is None else trials.times)

    def trials(self, say: Callable[[str], None] = lambda line: None) -> Trials:
        """Time a few steps of each variant without a finished run. Nothing is written."""
        left = self.seconds_left()
        return timed([run for run in self.planned if left[run.name] is None], say)

    def table(self, jobs: int = 1, trials: Trials | None = None) -> str:
        """Return a list of the runs with the run that each needs, its stage and its remaining time."""
        left = self.seconds_left(trials)
        rows = [(run.name, run.needs or "–", self.stages[run.name], duration(left[run.name])) for run in self.planned]
        lines = aligned_words([("run", "takes the backbone of", "is", "will take"), *rows])
        return "\n".join([*lines, _total(list(left.values()), jobs)])

    def __str__(self) -> str:
        return self.table()

    def seen(self) -> SweepResult:
        """Return the state of all runs without starting any, and write the page of the finished ones."""
        ended = (
            Ended(run, "finished")
            if self.stages[run.name] == "finished"
            else Ended(run, "unfinished", last_error(run.folder.path / LOG))
            for run in self.planned
        )
        return self._written(SweepResult(self, tuple(ended), 0))

    def run(self, jobs: int = 1, say: Callable[[str], None] = lambda line: None) -> SweepResult:
        """Run everything that is not finished yet, then write the page and the measurements.

        Arguments:
            jobs: number of simultaneous runs.
            say: called with a line when a run starts or ends.
        """
        ended, stopped = Processes(self.planned, self.stages, jobs, say).run()
        by_name = {end.run.name: end for end in ended}
        result = SweepResult(self, tuple(by_name[run.name] for run in self.planned), stopped)
        return result if stopped else self._written(result)

    def _written(self, result: SweepResult) -> SweepResult:
        """Write the page and the measurements. Add a note for variants whose runs were measured differently."""
        if result.comparison is None:
            return result
        result.comparison.save(self.page)
        try:
            result.comparison.save(self.measurements)
        except ConfigError as error:
            return attrs.evolve(result, notes=(f"{self.measurements} is not written: {error}",))
        return result


@attrs.frozen(eq=False, repr=False, slots=False)
class SweepResult:
    """The results of a sweep. `print` shows the table of its runs.

    Arguments:
        plan: the plan.
        ended: the end of each run, in the order of the plan.
        stopped: number of the signal to stop, or 0.
        notes: files that could not be written, with reasons.
    """

    plan: SweepPlan
    ended: tuple[Ended, ...]
    stopped: int
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Ended, ...]:
        """Return the failed, skipped and unfinished runs."""
        return tuple(end for end in self.ended if end.state in ("failed", "skipped", "unfinished"))

    @cached_property
    def comparison(self) -> Comparison | None:
        """Return the comparison of the finished runs, variant by variant; None if no run is finished."""
        order = [variant.name for variant in self.plan.sweep.variants]
        finished = [end.run for end in self.ended if end.state == "finished"]
        finished.sort(key=lambda run: order.index(run.variant) if run.variant in order else -1)
        return compare([run.folder.path for run in finished], anyway=True) if finished else None

    def messages(self) -> list[str]:
        """Return lines with everything that users must know besides the table."""
        if self.stopped:
            done = sum(end.state == "finished" for end in self.ended)
            return [f"note: stopped; {done} of {len(self.ended)} runs are finished; start the sweep again"]
        differing = [] if self.comparison is None else self.comparison.differing
        lines = [f"note: measured differently: {line}" for line in differing]
        lines += [f"note: {note}" for note in self.notes]
        for end in self.failed:
            why = f": {end.reason}" if end.reason else ""
            lines.append(f"{end.state}: {end.run.name}{why}" + (f"\n  log: {end.log}" if end.has_log else ""))
        return lines

    def __str__(self) -> str:
        found = self.comparison
        return "no run is finished" if found is None else str(found)


def sweep(
    file: str | Path, changes: Changes = (), *, runs: str | Path = "runs", jobs: int = 1, progress: bool = True
) -> SweepResult:
    """Run a sweep, like `hebm sweep`. Every run is a separate process, and finished runs are not repeated.

    On Ctrl-C the runs save and the call returns; the same call resumes. Components that are registered only in Python
    are unknown to the processes.

    Arguments:
        file: the sweep file.
        changes: changes of every run: values by dotted key, or `--set` texts.
        runs: the folder of run folders.
        jobs: number of simultaneous runs, each on a separate GPU if there are several.
        progress: report on the error stream when a run starts or ends.

    Raises `ConfigError` with all problems, before anything runs.

    Example:
        print(hebm.sweep("benchmarks/sweeps/priors-mnist.toml"))
    """
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise ConfigError(f"jobs: expected 1 or more, got {jobs!r}")
    listener = listener_of(progress)
    say = listener.said if progress else lambda line: None
    result = SweepPlan.of(Sweep.load(file, changes), runs).run(jobs, say)
    if result.stopped not in (0, signal.SIGINT):
        sys.exit(128 + result.stopped)
    return result


def check_sweep(found: SweepPlan, say: Callable[[str], None]) -> dict[str, Check]:
    """Check one run of each variant, and return the findings by variant. Other seeds would not change them.

    Variants that use the backbone of another run are checked with a new one.

    Raises `ConfigError` with the problems of all variants.
    """
    from hebm.checking import check

    complaints = []
    checks: dict[str, Check] = {}
    for run in first_of_each(found.planned):
        say(f"{run.variant}:")
        try:
            checks[run.variant] = check(alone(run), lambda line: say(f"  {line}"))
        except HebmError as error:
            say(f"  error: {error}")
            complaints.append(f"variant {run.variant!r}: {error}")
    if complaints:
        raise ConfigError("\n".join(complaints))
    return checks


def _total(left: Sequence[float | None], jobs: int) -> str:
    known = [seconds for seconds in left if seconds is not None]
    if all(seconds == 0 for seconds in left):
        return f"{len(left)} runs, all finished"
    more = f" and {len(left) - len(known)} runs of unknown length" if len(known) < len(left) else ""
    at_once = f", {jobs} at a time" if jobs > 1 else ""
    return f"{len(left)} runs{at_once}: " + (f"about {duration(sum(known) / jobs)}{more}" if known else "time unknown")


def aligned_words(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return one line per row, with cells aligned in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
