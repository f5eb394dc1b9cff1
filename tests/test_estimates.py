"""The arithmetic of estimates, on a clock that the test moves."""

from types import SimpleNamespace

import pytest

from hebm import estimates
from hebm.estimates import Estimate, StepTimes
from hebm.store.row_cache import TableTime, Trial


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(estimates.time, "perf_counter", lambda: now.seconds)
    return now


def steps(times, clock, phase, *seconds):
    times.started(phase.name, 0, phase.steps)
    for step in seconds:
        clock.seconds += step
        times.stepped(None)


def test_a_phase_takes_its_steps_its_log_lines_and_the_rows_that_it_keeps(clock):
    phase, trial = SimpleNamespace(name="prior", steps=1000), Trial()
    times = StepTimes([phase], trial, batch_size=10, log_every=100)
    assert phase.steps == 5
    trial.tables.append(TableTime(rows=2000, made=20, seconds=4.0))
    clock.seconds += 4.0  # these rows are left out of the steps
    steps(times, clock, phase, 3.0, 1.0, 1.0, 1.0, 2.0)
    assert times.seconds["prior"] == pytest.approx(8 + 995 * 1.0 + 10 * 1.0 + 400)
    assert times.timed == {"prior": 3}


def test_a_phase_of_slow_steps_takes_three(clock):
    phase = SimpleNamespace(name="backbone", steps=1000)
    times = StepTimes([phase], Trial(), batch_size=10, log_every=100)
    steps(times, clock, phase, 9.0, 8.0)
    assert phase.steps == 3
    steps_left = 1000 - 2
    assert times.seconds["backbone"] == pytest.approx(17 + steps_left * 8.0)


def test_a_sentence_has_the_parts_and_what_is_not_counted():
    said = str(Estimate({"backbone": 360.0, "prior": 240.0}, 240.0, 3, ("metric likelihood",)))
    assert said == (
        "about 14 min: backbone 6 min, prior 4 min, evaluation 4 min (measured on 3 steps of each phase, on this "
        "machine; not counted: metric likelihood)"
    )
