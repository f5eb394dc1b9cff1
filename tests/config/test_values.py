from typing import Literal

import pytest

from hebm.config.values import describe, fits, show


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, int),
        (1, float),
        (1.5, float),
        (10**400, float),
        (True, bool),
        ("a", str),
        (None, int | None),
        ((), tuple[int, ...]),
        ((1, 2), tuple[int, ...]),
        ((1, "a"), tuple[int, str]),
        (3, int | tuple[int, ...]),
        ((3,), int | tuple[int, ...]),
        ("a", Literal["a", "b"]),
        (1, Literal[1, 2]),
        (((1,), (2, 3)), tuple[tuple[int, ...], ...]),
    ],
)
def test_a_value_of_the_type_fits(value, annotation):
    assert fits(value, annotation)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (True, int),
        (True, float),
        (1, bool),
        (1.0, int),
        ("1", int),
        (float("nan"), float),
        (float("inf"), float),
        (None, int),
        ([1], tuple[int, ...]),
        ((1, True), tuple[int, ...]),
        ((1,), tuple[int, str]),
        ("c", Literal["a", "b"]),
        (True, Literal[1]),
        ("\ud800", str),
        ("x", int | None),
    ],
)
def test_nothing_is_coerced(value, annotation):
    assert not fits(value, annotation)


def test_types_are_described_in_a_users_words():
    assert describe(int | None) == "an integer"
    assert describe(tuple[float, ...]) == "a list of numbers"
    assert describe(tuple[int, str]) == "a list of 2: [an integer, a string]"


def test_a_value_is_shown_short_and_without_failing():
    assert len(show("x" * 1000)) < 50
    assert show(16**5000) == "a very large int"
    assert show(True) == "true"
