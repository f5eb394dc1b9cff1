"""Factors of the learning rate: where they start, and where they end."""

import pytest

from hebm.training import schedules


@pytest.mark.parametrize("name", schedules.DECAYS)
def test_every_decay_starts_at_one_and_ends_at_its_final_factor(name):
    formula = schedules.DECAYS[name]
    assert formula(0.0, 0.1) == pytest.approx(1.0)
    assert formula(1.0, 0.1) == pytest.approx(1.0 if name == "constant" else 0.1)


def test_no_steps_are_no_division_by_zero():
    assert schedules.decayed("cosine", 0, 0, 0.0, 0.1) == 1.0


def test_epochs_after_the_warm_up_are_counted_with_the_last_short_one():
    assert [schedules.epochs_left(total, 3, 3) for total in (3, 4, 6, 7)] == [0, 1, 1, 2]


def test_the_epoch_after_the_warm_up_keeps_what_that_ended_at():
    found = [schedules.epoch_cosine(step, 12, 4, 4, 0.01) for step in range(8)]
    assert found == pytest.approx([0.0, 0.25, 0.5, 0.75, 0.75, 0.75, 0.75, 0.75])
