"""A sweep as its user handles it: run all its runs, and compare them."""

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
    """The runs of a sweep before they start; `print` lists them with what they need and how long they will take.

    Arguments:
        sweep: what the file says.
        runs: the folder of run folders.
        planned: each after the one that trains its backbone.
        stages: how far each is, by name.
    """

    sweep: Sweep
    runs: Path
    planned: tuple[PlannedRun, ...]
    stages: dict[str, Stage]

    @classmethod
    def of(cls, sweep: Sweep, runs: str | Path = "runs") -> SweepPlan:
        """Plan a sweep.

        Raises `ConfigError` with every change of a key that does not fit, or every folder that holds something else.
        """
        planned = plan(sweep, runs)
        return cls(sweep, Path(runs), planned, stages_of(planned))

    @property
    def page(self) -> Path:
        """Return the path of the page that compares the runs."""
        return self.runs / f"{self.sweep.name}.html"

    @property
    def measurements(self) -> Path:
        """Return the path of the folder with a file of measurements for each variant."""
        return self.runs / f"{self.sweep.name}{ENDING}"

    def require_common(self, committed: Sequence[Row]) -> None:
        """Raise `ConfigError` if earlier measurements have no row of a variant of this sweep."""
        own = {f"{self.sweep.name}-{run.variant}" for run in self.planned}
        if own.isdisjoint(row.name for row in committed):
            known = ", ".join(row.name for row in committed)
            raise ConfigError(f"--against: none of the rows {known} is one of this sweep: {', '.join(sorted(own))}")

    def seconds_left(self, trials: Trials | None = None) -> dict[str, float | None]:
        """Return how long each run will still take, by name; None where no finished run and no trial tells it."""
        return estimates(self.planned, self.stages, {} if trials is None else trials.times)

    def trials(self, say: Callable[[str], None] = lambda line: None) -> Trials:
        """Take a few steps of each variant whose time no finished run tells, without writing anything."""
        left = self.seconds_left()
        return timed([run for run in self.planned if left[run.name] is None], say)

    def table(self, jobs: int = 1, trials: Trials | None = None) -> str:
        """Return the list of the runs, with what each needs, how far it is and the time that it will still take."""
        left = self.seconds_left(trials)
        rows = [(run.name, run.needs or "–", self.stages[run.name], duration(left[run.name])) for run in self.planned]
        lines = aligned_words([("run", "takes the backbone of", "is", "will take"), *rows])
        return "\n".join([*lines, _total(list(left.values()), jobs)])

    def __str__(self) -> str:
        return self.table()

    def seen(self) -> SweepResult:
        """Return how far all runs are, without starting any, and write the page of those that are finished."""
        ended = (
            Ended(run, "finished")
            if self.stages[run.name] == "finished"
            else Ended(run, "unfinished", last_error(run.folder.path / LOG))
            for run in self.planned
        )
        return self._written(SweepResult(self, tuple(ended), 0))

    def run(self, jobs: int = 1, say: Callable[[str], None] = lambda line: None) -> SweepResult:
        """Run everything that is not finished yet, and write the page and the measurements.

        Arguments:
            jobs: how many runs at a time.
            say: told a line when a run starts or ends.
        """
        ended, stopped = Processes(self.planned, self.stages, jobs, say).run()
        by_name = {end.run.name: end for end in ended}
        result = SweepResult(self, tuple(by_name[run.name] for run in self.planned), stopped)
        return result if stopped else self._written(result)

    def _written(self, result: SweepResult) -> SweepResult:
        """Write the page and the measurements; a variant whose runs were measured differently is a note."""
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
    """How the runs of a sweep ended; `print` shows their table.

    Arguments:
        plan: what was run.
        ended: how each run ended, in the order of the plan.
        stopped: the number of the signal that asked to stop, or 0.
        notes: what could not be written, and why.
    """

    plan: SweepPlan
    ended: tuple[Ended, ...]
    stopped: int
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[Ended, ...]:
        """Return the runs that failed, those that were skipped because of them, and unfinished ones."""
        return tuple(end for end in self.ended if end.state in ("failed", "skipped", "unfinished"))

    @cached_property
    def comparison(self) -> Comparison | None:
        """Return the finished runs next to each other, variant by variant; None if there are none."""
        order = [variant.name for variant in self.plan.sweep.variants]
        finished = [end.run for end in self.ended if end.state == "finished"]
        finished.sort(key=lambda run: order.index(run.variant) if run.variant in order else -1)
        return compare([run.folder.path for run in finished], anyway=True) if finished else None

    def messages(self) -> list[str]:
        """Return a line for everything that a user must know besides the table."""
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
    """Run a sweep, as `hebm sweep` does: every run is a process of its own, and finished ones are not run again.

    Ctrl-C lets the runs save and returns; the same call goes on. Components that were registered in Python alone are
    unknown to the processes.

    Arguments:
        file: the sweep file.
        changes: of every run: values by dotted key, or `--set` texts.
        runs: the folder of run folders.
        jobs: how many runs at a time, each on a GPU of its own where there are several.
        progress: say on the error stream when a run starts or ends.

    Raises `ConfigError` with everything that does not fit, before anything runs.

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
    """Check a run of each variant and return what was found by variant: seeds change nothing that could stop a run.

    Variants that take a backbone are checked with a new one.

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
    """Return a line for each row, its cells in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
