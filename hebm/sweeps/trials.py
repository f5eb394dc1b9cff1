"""Try one run of each variant of a sweep, to check that it can start and to estimate its time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs

from hebm.config.experiment import Experiment
from hebm.errors import HebmError
from hebm.sweeps.planning import PlannedRun
from hebm.sweeps.stages import Time


@attrs.frozen
class Trials:
    """The results of trials.

    Arguments:
        times: estimated times by variant.
        uncounted: work whose time is not included.
        complaints: errors by variant.
    """

    times: Mapping[str, Time] = attrs.field(factory=dict)
    uncounted: tuple[str, ...] = ()
    complaints: Mapping[str, str] = attrs.field(factory=dict)

    def notes(self) -> list[str]:
        """Return lines with everything that users must know besides the times."""
        lines = [f"variant {variant!r}: {complaint}" for variant, complaint in self.complaints.items()]
        return lines + ([f"time not counted: {', '.join(self.uncounted)}"] if self.uncounted else [])


def first_of_each(planned: Sequence[PlannedRun]) -> Iterator[PlannedRun]:
    """Yield one run of each variant. Other seeds would give the same result."""
    seen = set()
    for run in planned:
        if run.variant not in seen:
            seen.add(run.variant)
            yield run


def alone(run: PlannedRun) -> Experiment:
    """Return the experiment of a run with a new backbone, because its backbone may not be trained yet."""
    if run.needs is None:
        return run.experiment
    train = attrs.evolve(run.experiment.train, backbone_from=None)  # type: ignore[misc]
    return attrs.evolve(run.experiment, train=train)  # type: ignore[misc]


def timed(planned: Sequence[PlannedRun], say: Callable[[str], None]) -> Trials:
    """Take a few steps of one run of each variant, and estimate the time of its runs.

    A variant that cannot start becomes a complaint.

    Arguments:
        planned: the runs whose time to estimate.
        say: called with the name of each trial.
    """
    from hebm.checking import check

    times: dict[str, Time] = {}
    uncounted: list[str] = []
    complaints: dict[str, str] = {}
    for run in first_of_each(planned):
        say(f"trying a few steps of {run.variant}")
        try:
            whole = check(alone(run)).estimate
        except HebmError as error:
            complaints[run.variant] = str(error)
            continue
        found = whole if run.needs is None else whole.given_backbone()
        times[run.variant] = Time(sum(found.phases.values()), found.evaluation)
        uncounted += found.uncounted
    return Trials(times, tuple(dict.fromkeys(uncounted)), complaints)
