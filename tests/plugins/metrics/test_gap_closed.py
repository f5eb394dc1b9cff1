"""The control is the Gaussian prior at its best temperature, wherever that lies."""

from types import SimpleNamespace

import pytest
from tiny_models import numbers

from hebm_plugins.metrics.gap import GapClosed, in_words


class Measured:
    """An evaluation whose scaled Gaussian is best at a known temperature."""

    def __init__(self, best, temperatures=(0.8, 1.25, 1.5), **known):
        self.best, self.settings, self.known = best, SimpleNamespace(temperatures=temperatures), known

    def extractor(self):
        return SimpleNamespace(name="classifier")

    def distance(self, kind):
        known = {"gaussian": self.at(1.0), "prior": 3.0, "reconstruction": 1.0, "data": 0.0} | self.known
        return known[kind] if isinstance(kind, str) else self.at(kind[1])

    def at(self, temperature):
        return 2.0 + (temperature - self.best) ** 2


def computed(best, temperatures=(0.8, 1.25, 1.5), **known):
    return GapClosed().compute(Measured(best, temperatures, **known))


@pytest.mark.parametrize("best", [0.3, 0.8, 1.25, 2.4, 4.0])
def test_the_search_goes_on_beyond_the_grid_until_the_best_lies_inside(best):
    found = numbers(computed(best))
    assert found["temperature.scaled-gaussian"] == pytest.approx(best, rel=0.25)
    assert found["fd.scaled-gaussian"] <= found["fd.gaussian"]


def test_no_temperatures_no_search():
    assert numbers(computed(3.0, ()))["temperature.scaled-gaussian"] == 1.0


def test_gap_and_control_are_fractions_of_the_same_hole():
    found = numbers(computed(2.0))
    gaussian = found["fd.gaussian"]
    assert found["gap-closed.prior"] == pytest.approx((gaussian - 3.0) / (gaussian - 1.0))
    assert found["gap-closed.scaled-gaussian"] == pytest.approx(
        (gaussian - found["fd.scaled-gaussian"]) / (gaussian - 1.0)
    )


def test_the_result_in_words_says_gap_control_and_distances():
    fd = {"gaussian": 82.96, "prior": 51.93, "reconstruction": 43.13}
    text = in_words(0.77916, 0.29, fd, 0.9)
    for number in ("closes 77.9 %", "51.9", "83.0", "43.1", "0.900", "closes 29.0 %", "adds 48.9 points"):
        assert number in text
    assert computed(2.0)[0].summary.startswith("The learned prior closes 0.0 % of the gap")


def test_a_prior_that_is_worse_than_the_control_is_said_to_be():
    fd = {"gaussian": 2.0, "prior": 1.5, "reconstruction": 1.0}
    assert "stays 21.0 points below it" in in_words(0.08, 0.29, fd, 0.9)
    assert "widens it: -8.0 %" in in_words(-0.08, 0.29, fd, 0.9)


def test_an_undefined_gap_has_no_number_and_is_explained():
    gap, control, *_ = computed(2.0, reconstruction=99.0)
    assert not gap.found
    assert not control.found
    assert "not defined" in gap.note
    assert "Train the backbone" in gap.summary
