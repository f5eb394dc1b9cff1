"""Stein's identity tells draws of one density from those of another, and no exact draws from their own."""

import math

import pytest
import torch

from hebm.densities import LogDensity
from hebm.noise import Noise
from hebm.testing.promises import ConformanceError
from hebm.testing.skewed import SkewedTarget, skewed_draws
from hebm.testing.stein import BOUND, Subject, deviations, expect_follows, standard_errors
from hebm.testing.subjects import GaussianTarget

ROWS = 2048
MEAN = torch.tensor([0.5, -1.0, 0.0], dtype=torch.float64)
COV = torch.tensor([[1.0, 0.6, 0.0], [0.6, 0.8, 0.3], [0.0, 0.3, 0.5]], dtype=torch.float64)
ALL = torch.ones(3, dtype=torch.bool)
GIVEN_FIRST = torch.tensor([False, True, True])


def gaussian(name="draws", mean=MEAN, cov=COV):
    return mean + Noise(0, name, dtype=torch.float64).normal(ROWS, len(mean)) @ torch.linalg.cholesky(cov).T


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
def test_exact_draws_follow_their_density(name):
    assert max(deviations(gaussian(name), Subject.of(GaussianTarget(MEAN, COV), ALL)).values()) < BOUND


@pytest.mark.parametrize(
    "wrong",
    [
        gaussian(mean=MEAN + 0.2),
        gaussian(cov=1.3 * COV),
        gaussian(cov=COV.diagonal().diag()),
        2 * MEAN - gaussian() + 1,
    ],
    ids=["shifted", "wide", "uncorrelated", "mirrored"],
)
def test_draws_of_another_density_do_not(wrong):
    with pytest.raises(ConformanceError, match="standard errors"):
        expect_follows("draws", wrong, Subject.of(GaussianTarget(MEAN, COV), ALL), "none")


class Ridge(LogDensity):
    """log p(u) = −2 Σ_d |u_d| − |u|²/2, whose gradient jumps at 0."""

    def remainder(self, u):
        return -2 * u.abs().sum(1)


def ridge_draws(name="ridge"):
    """|u_d| is N(−2, 1) given that it is positive."""
    normal, noise = torch.distributions.Normal(-2.0, 1.0), Noise(0, name, dtype=torch.float64)
    tail = 1 - normal.cdf(torch.zeros((), dtype=torch.float64))
    sizes = normal.icdf(1 - tail * noise.uniform(ROWS, 3))
    return sizes * noise.normal(ROWS, 3).sign()


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_draws_follow_a_density_whose_gradient_jumps(name):
    assert max(deviations(ridge_draws(name), Subject.of(Ridge(), ALL)).values()) < BOUND
    assert deviations(1.2 * ridge_draws(name), Subject.of(Ridge(), ALL))["the tilt's gradient"] > BOUND


def conditional(given):
    """Exact draws of the last two coordinates given the first."""
    gain = COV[1:, 0] / COV[0, 0]
    rest = COV[1:, 1:] - gain.outer(COV[0, 1:])
    mean = MEAN[1:] + (given - MEAN[0]).unsqueeze(1) * gain
    return mean + Noise(0, "rest", dtype=torch.float64).normal(ROWS, 2) @ torch.linalg.cholesky(rest).T


def test_conditional_draws_follow_the_density_given_any_values_and_unconditional_ones_do_not():
    given = 3 * Noise(0, "given", dtype=torch.float64).normal(ROWS, 1)[:, 0]
    subject = Subject.of(GaussianTarget(MEAN, COV), GIVEN_FIRST)
    right = torch.cat([given.unsqueeze(1), conditional(given)], dim=1)
    assert max(deviations(right, subject).values()) < BOUND
    wrong = torch.cat([given.unsqueeze(1), conditional(given.roll(1))], dim=1)
    assert deviations(wrong, subject)["the effect of given coordinates"] > BOUND


def test_draws_that_are_not_finite_are_counted():
    u = gaussian()
    u[3] = math.nan
    with pytest.raises(ConformanceError, match=f"1 of {ROWS} draws are NaN"):
        expect_follows("draws", u, Subject.of(GaussianTarget(MEAN, COV), ALL), "none")


def test_skewed_draws_follow_the_skewed_density():
    assert max(deviations(skewed_draws(ROWS), Subject.of(SkewedTarget(), ALL[:2])).values()) < BOUND


def test_a_column_of_zeros_is_no_standard_errors_off_and_a_constant_infinitely_many():
    assert standard_errors(torch.zeros(5, 2)) == 0
    assert standard_errors(torch.ones(5, 1)) == math.inf
