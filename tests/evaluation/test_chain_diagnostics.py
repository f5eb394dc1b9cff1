"""Known answers: independent draws, AR(1) chains, chains that disagree."""

import math

import pytest
import torch

from hebm.errors import DataError
from hebm.evaluation.chain_diagnostics import mixing


def ar1(rho, chains, steps, seed=0):
    """θ_{n+1} = ρ θ_n + √(1 − ρ²) ξ, stationary: its integrated autocorrelation time is (1 + ρ) / (1 − ρ)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(steps, chains, generator=generator, dtype=torch.float64)
    out = [noise[0]]
    for xi in noise[1:]:
        out.append(rho * out[-1] + math.sqrt(1 - rho**2) * xi)
    return torch.stack(out, dim=1)


def test_independent_draws_count_in_full_and_agree():
    found = mixing(ar1(0.0, 8, 1000))
    assert found.rhat == pytest.approx(1, abs=0.005)
    assert found.ess == pytest.approx(8000, rel=0.1)


@pytest.mark.parametrize("rho", [0.5, 0.9, -0.5])
def test_ar1_chains_count_by_their_autocorrelation_time(rho):
    found = mixing(ar1(rho, 8, 4000))
    assert found.rhat == pytest.approx(1, abs=0.02)
    assert found.ess == pytest.approx(32000 * (1 - rho) / (1 + rho), rel=0.15)


def test_chains_about_different_means_have_the_rhat_of_the_formula():
    chains = ar1(0.0, 4, 2000) + 2 * torch.arange(4.0).unsqueeze(1)
    halves = torch.cat([chains[:, :1000], chains[:, 1000:]])
    within, between = halves.var(1).mean(), halves.mean(1).var()
    found = mixing(chains)
    assert found.rhat == pytest.approx(float((0.999 * within + between).div(within).sqrt()))
    assert found.rhat > 2
    assert found.ess < 20


def test_a_drift_shows_within_one_chain():
    assert mixing(ar1(0.0, 1, 500) + torch.linspace(0, 5, 500)).rhat > 1.3


def test_a_number_too_many_steps_is_left_out_and_scale_does_not_matter():
    chains = ar1(0.5, 3, 301)
    assert mixing(1e6 * chains + 1e3) == pytest.approx(mixing(chains), rel=1e-6)


def test_chains_that_stand_still_or_are_not_finite_have_no_figure():
    assert all(math.isnan(value) for value in mixing(torch.ones(2, 20)))
    broken = ar1(0.0, 2, 20)
    broken[0, 3] = math.nan
    assert all(math.isnan(value) for value in mixing(broken))


def test_too_short_chains_are_refused():
    with pytest.raises(DataError, match="N ≥ 8 steps"):
        mixing(torch.zeros(3, 7))
