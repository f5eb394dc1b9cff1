"""A phase that ends when its loss no longer falls: what counts, what follows, what a stop at its end leaves."""

import math

import pytest
from real_runs import differences, log, newest, tiny, train

from hebm.training.plateau import Plateau

MOST = 40
"""Steps of a phase, had its loss gone on falling."""


# ---------------------------------------------------------------- what counts


def ends(window, losses):
    """The number of the step that ends it, or None."""
    plateau = Plateau(window)
    return next((k for k, loss in enumerate(losses, 1) if plateau.reached(loss)), None)


@pytest.mark.parametrize(
    ("losses", "end"),
    [
        ([3, 1, 2, 1, 1, 1], None),  # means 2, 1.5, 1
        ([3, 1, 2, 1, 2, 2, 0, 0], 6),  # 2, 1.5, 2
        ([3, 1, 2, 2, 0, 0], 4),  # equal is not below
        ([1, 9, 9], None),  # a window of its own first
    ],
)
def test_a_phase_ends_with_the_first_window_that_is_not_below_the_one_before(losses, end):
    assert ends(2, losses) == end


def test_a_window_of_0_never_ends():
    assert ends(0, range(100)) is None


def test_steps_that_were_left_out_do_not_count():
    assert ends(2, [3, math.nan, 1, 2, math.inf, 1, 1, 1]) is None
    assert ends(2, [3, math.nan, 1, 2, math.inf, 3]) == 6


def test_that_it_ended_is_kept_until_the_next_window():
    plateau = Plateau(1)
    assert [plateau.reached(loss) for loss in (2.0, 1.0, 1.0)] == [False, False, True]
    assert plateau.ended
    assert plateau == Plateau(1, before=1.0, ended=True)


# ---------------------------------------------------------------- what follows


def early(**tables):
    """Both phases end early: their rate is too small for the loss to fall in every pair of steps."""
    phase = {"steps": MOST, "patience": 2, "learning_rate": 1e-4}
    return tiny(train={"backbone": dict(phase), "prior": dict(phase)}, **tables)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "tiny"
    assert train(early(), folder)
    return folder


def end_of(folder, phase):
    """(step of the phase, total step) of its last line."""
    line = [line for line in log(folder) if line["phase"] == phase][-1]
    return line["step"], line["total_step"]


def means(folder, phase):
    losses = [line["loss"] for line in log(folder) if line["phase"] == phase]
    return [(a + b) / 2 for a, b in zip(losses[::2], losses[1::2], strict=True)]


@pytest.mark.parametrize("phase", ["backbone", "prior"])
def test_a_phase_ends_where_its_loss_no_longer_falls(whole, phase):
    step, _ = end_of(whole, phase)
    assert 4 <= step < MOST
    *falling, end = means(whole, phase)
    assert end >= falling[-1]
    assert falling == sorted(falling, reverse=True)


def test_the_next_phase_starts_at_the_step_that_follows(whole):
    step, total = end_of(whole, "backbone")
    first = next(line for line in log(whole) if line["phase"] == "prior")
    assert step == total
    assert (first["step"], first["total_step"]) == (1, total + 1)
    assert newest(whole).total_step == total + end_of(whole, "prior")[0]


@pytest.mark.parametrize("phase", ["backbone", "prior"])
@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_a_stop_around_the_end_of_a_phase_changes_nothing(tmp_path, whole, phase, offset):
    _, end = end_of(whole, phase)
    train(early(), tmp_path / "tiny", stop_after=end + offset)
    assert train(early(), tmp_path / "tiny")
    assert differences(tmp_path / "tiny", whole) == []


def test_more_steps_do_not_wake_a_phase_that_ended(tmp_path):
    folder = tmp_path / "tiny"
    assert train(early(), folder)
    before = newest(folder)
    more = early()
    more["train"]["prior"]["steps"] = 2 * MOST
    assert train(more, folder, allow=True)
    assert newest(folder).total_step == before.total_step


def test_more_steps_go_on_where_the_phase_used_all_it_had(tmp_path):
    folder, patient = tmp_path / "tiny", {"patience": 100}
    assert train(tiny(train={"prior": patient}), folder)
    assert newest(folder).total_step == 12
    assert train(tiny(train={"prior": {**patient, "steps": 9}}), folder, allow=True)
    assert newest(folder).total_step == 15
