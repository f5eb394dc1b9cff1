"""The control is the Gaussian prior at its best temperature, wherever that lies."""

from types import SimpleNamespace

import pytest

from hebm_plugins.metrics.gap import GapClosed


class Measured:
    """An evaluation whose scaled Gaussian is best at a known temperature."""

    def __init__(self, best, temperatures=(0.8, 1.25, 1.5)):
        self.best, self.settings = best, SimpleNamespace(temperatures=temperatures)

    def distance(self, kind):
        known = {"gaussian": self.at(1.0), "prior": 3.0, "reconstruction": 1.0, "data": 0.0}
        return known[kind] if isinstance(kind, str) else self.at(kind[1])

    def at(self, temperature):
        return 2.0 + (temperature - self.best) ** 2


@pytest.mark.parametrize("best", [0.3, 0.8, 1.25, 2.4, 4.0])
def test_the_search_goes_on_beyond_the_grid_until_the_best_lies_inside(best):
    fd = GapClosed().compute(Measured(best))["fd"]
    assert fd["scaled_gaussian_temperature"] == pytest.approx(best, rel=0.25)
    assert fd["scaled_gaussian"] <= fd["gaussian"]


def test_no_temperatures_no_search():
    fd = GapClosed().compute(Measured(3.0, ()))["fd"]
    assert fd["scaled_gaussian_temperature"] == 1.0


def test_gap_and_control_are_fractions_of_the_same_hole():
    found = GapClosed().compute(Measured(2.0))
    gaussian = found["fd"]["gaussian"]
    assert found["gap_closed"] == pytest.approx((gaussian - 3.0) / (gaussian - 1.0))
    assert found["gap_closed_scaled_gaussian"] == pytest.approx(
        (gaussian - found["fd"]["scaled_gaussian"]) / (gaussian - 1.0)
    )
