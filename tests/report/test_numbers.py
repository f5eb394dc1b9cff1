import math

import pytest

from hebm.evaluation.metric import SHARE
from hebm.report.numbers import percent, shown, significant, with_deviation


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.012345, "0.0123"),
        (12.0049, "12.0"),
        (123.4, "123"),
        (999.7, "1,000"),
        (12345.6, "12,346"),
        (10000, "10,000"),
        (-0.5, "-0.500"),
        (0.0, "0"),
        (3.2e-7, "3.20e-07"),
        (4.5e12, "4.50e+12"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_numbers_have_three_significant_digits(value, text):
    assert significant(value) == text


def test_shares_are_in_per_cent_with_one_decimal():
    assert [percent(0.83241), percent(-0.05), percent(None)] == ["83.2 %", "-5.0 %", "–"]


def test_a_deviation_has_two_digits_and_shares_have_one_per_cent_sign():
    assert with_deviation(81.234, 0.3214, "nats") == "81.2 ± 0.32"
    assert with_deviation(0.75, 0.0321, SHARE) == "75.0 ± 3.2 %"
    assert with_deviation(0.75, None, SHARE) == "75.0 %"
    assert with_deviation(math.nan, 0.1, "nats") == "–"


def test_any_json_entry_can_be_shown():
    assert [shown(v) for v in (True, 3, None, "x", [1, "a"], [])] == ["yes", "3", "–", "x", "1, a", "none"]
