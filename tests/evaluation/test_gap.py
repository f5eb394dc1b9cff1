from __future__ import annotations

import pytest

from hebm.evaluation.gap import gap_closed


def test_published_trial():
    assert gap_closed(1810, 1475.0, 287) == pytest.approx(0.22, abs=0.001)


def test_ends_of_the_scale():
    assert gap_closed(10, 10, 2) == 0
    assert gap_closed(10, 2, 2) == 1


def test_no_gap_is_no_number():
    assert gap_closed(2, 1, 2) is None
