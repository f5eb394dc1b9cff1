"""Pixel distributions: the formulas of torch's own, without argument checks, drawn from derived noise."""

import math

import pytest
import torch
from torch.distributions import Bernoulli, Independent, Normal

from hebm.likelihoods import BernoulliPixels, GaussianPixels, PixelDistribution
from hebm.noise import Noise

SHAPE = (4, 3, 2, 5)


@pytest.fixture
def parameters():
    return Noise(0, "parameters", dtype=torch.float64).normal(*SHAPE)


@pytest.mark.parametrize("make", [lambda p: GaussianPixels(p.tanh(), 0.3), BernoulliPixels])
def test_batch_shape_is_the_batch_and_event_shape_the_image(make, parameters):
    likelihood = make(parameters)
    assert likelihood.batch_shape == (4,)
    assert likelihood.event_shape == SHAPE[1:]
    assert not likelihood._validate_args
    assert likelihood.log_prob(parameters.sign()).shape == (4,)
    assert likelihood.mean.shape == SHAPE


def test_gaussian_log_prob_holds_its_constant(parameters):
    x = Noise(0, "x", dtype=torch.float64).normal(*SHAPE)
    expected = Independent(Normal(parameters, 0.3), 3).log_prob(x)
    assert torch.allclose(GaussianPixels(parameters, 0.3).log_prob(x), expected, atol=1e-9)


def test_bernoulli_log_prob_and_mean_are_over_minus_one_and_one(parameters):
    x = Noise(0, "x", dtype=torch.float64).normal(*SHAPE).sign()
    reference = Bernoulli(logits=parameters)
    expected = Independent(reference, 3).log_prob((x + 1) / 2)
    assert torch.allclose(BernoulliPixels(parameters).log_prob(x), expected, atol=1e-9)
    assert torch.allclose(BernoulliPixels(parameters).mean, 2 * reference.mean - 1)


def test_bernoulli_stays_finite_at_extreme_logits():
    logits = torch.tensor([-1e4, 1e4]).reshape(2, 1, 1, 1)
    x = torch.ones(2, 1, 1, 1)
    assert torch.equal(BernoulliPixels(logits).log_prob(x), torch.tensor([-1e4, 0.0]))


def test_draws_are_derived_and_inside_the_range(parameters):
    for likelihood in (GaussianPixels(parameters.tanh(), 0.3), BernoulliPixels(parameters)):
        first, again = (likelihood.draw(Noise(0, "draw", dtype=torch.float64)) for _ in range(2))
        assert torch.equal(first, again)
        assert first.abs().max() <= 1
        assert not torch.equal(first, likelihood.draw(Noise(0, "other", dtype=torch.float64)))


def test_draws_have_the_mean_of_the_distribution():
    mean = torch.full((4096, 1, 1, 1), 0.2, dtype=torch.float64)
    logits = torch.full((4096, 1, 1, 1), 0.7, dtype=torch.float64)
    noise = Noise(0, "draw", dtype=torch.float64)
    assert abs(float(GaussianPixels(mean, 0.1).draw(noise).mean()) - 0.2) < 4 * 0.1 / 64
    expected = 2 / (1 + math.exp(-0.7)) - 1
    assert abs(float(BernoulliPixels(logits).draw(noise).mean()) - expected) < 4 / 64


def test_every_distribution_says_what_its_log_probability_is_of(parameters):
    assert "not bits per dimension" in GaussianPixels(parameters, 0.3).scale
    assert BernoulliPixels(parameters).scale == "binary pixels"
    assert BernoulliPixels.binary
    assert not GaussianPixels.binary


def test_a_distribution_that_says_nothing_of_its_scale_has_a_default(parameters):
    class Silent(PixelDistribution):
        mean = None

        def draw(self, noise):
            return None

    assert "backbone's likelihood" in Silent(parameters).scale
    assert not Silent(parameters).binary
