from __future__ import annotations

import pytest
import torch

from hebm.evaluation.gap import estimated_gap, gap_closed
from hebm.evaluation.jackknife import Estimate


def test_published_trial():
    assert gap_closed(1810, 1475.0, 287) == pytest.approx(0.22, abs=0.001)


def test_ends_of_the_scale():
    assert gap_closed(10, 10, 2) == 0
    assert gap_closed(10, 2, 2) == 1


def test_no_gap_is_no_number():
    assert gap_closed(2, 1, 2) is None


def estimate(value, noise=0.0, seed=0):
    """A distance whose standard error is `noise`; those of one seed share it."""
    spread = torch.randn(20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    spread = noise * (spread - spread.mean()) / (19 / 20 * (spread - spread.mean()).square().sum()).sqrt()
    return Estimate(value, value + spread)


def test_noise_that_all_distances_share_cancels_in_the_gap_and_noise_of_the_prior_alone_does_not():
    shared = [estimate(value, noise=1.0) for value in (10.0, 4.0, 8.0, 2.0)]
    found = estimated_gap(*shared)
    assert (found.prior.value, found.control.value, found.beyond.value) == pytest.approx((0.75, 0.25, 0.5))
    assert max(found.prior.error, found.control.error, found.beyond.error) < 1e-12
    own = estimated_gap(shared[0], estimate(4.0, 1.0, seed=1), *shared[2:])
    assert own.prior.error == pytest.approx(own.beyond.error)
    assert own.prior.error > 0.1


def test_a_gap_within_its_noise_is_not_measurable_and_one_beyond_it_is():
    distances = estimate(3.0), estimate(2.5), estimate(2.8)
    assert estimated_gap(*distances, estimate(2.0, noise=0.6)).prior is None
    assert estimated_gap(*distances, estimate(2.0, noise=0.4)).prior.value == 0.5
    assert estimated_gap(*distances, estimate(3.5)).prior is None
