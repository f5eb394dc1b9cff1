"""Importance weights: what they are worth, and how often each particle is chosen."""

import math

import pytest
import torch

from hebm.particles import choose, effective_share, resample

P = 16
NAN, NEVER = math.nan, -math.inf


def log_weights(rows):
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(rows, P, generator=generator, dtype=torch.float64)


def grid(rows):
    """Uniform numbers that fill [0, 1) evenly, the first being 0."""
    return torch.arange(rows, dtype=torch.float64) / rows


def counts(index, particles=P):
    return torch.stack([row.bincount(minlength=particles) for row in index])


# ---------------------------------------------------------------- the effective share


def test_equal_weights_are_worth_all_particles_and_a_dominating_one_is_worth_one():
    equal, dominating = torch.full((P,), 3.0).double(), torch.zeros(P).double()
    dominating[5] = 800.0
    torch.testing.assert_close(effective_share(torch.stack([equal, dominating])), torch.tensor([1, 1 / P]).double())


def test_the_share_is_its_formula_whatever_factor_the_weights_have():
    w = log_weights(5).exp()
    expected = w.sum(1).square() / (P * w.square().sum(1))
    for factor in (0.0, 1000.0, -1000.0):
        torch.testing.assert_close(effective_share(w.log() + factor), expected)


# ---------------------------------------------------------------- resampling


def test_a_particle_is_resampled_as_often_as_its_weight_says_rounded_up_or_down():
    log_w = log_weights(200)
    index = resample(log_w, torch.rand(200, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    expected = P * log_w.softmax(1)
    assert ((counts(index) - expected).abs() < 1).all()
    assert (counts(index) > 1).any()


def test_resampling_is_unbiased():
    log_w, rows = log_weights(1), 4000
    found = counts(resample(log_w.expand(rows, P), grid(rows))).double().mean(0)
    torch.testing.assert_close(found, P * log_w.softmax(1)[0], rtol=0, atol=2 / rows)


def test_resampled_indices_are_in_order():
    index = resample(log_weights(50), grid(50))
    assert (index.diff(dim=1) >= 0).all()


@pytest.mark.parametrize("uniform", [0.0, 0.3, 0.999])
def test_equal_weights_keep_every_particle(uniform):
    index = resample(torch.zeros(3, P).double(), torch.full((3,), uniform).double())
    assert torch.equal(index, torch.arange(P).expand(3, P))


@pytest.mark.parametrize("pick", [resample, choose])
@pytest.mark.parametrize("uniform", [0.0, 0.3, 0.999])
def test_a_particle_without_weight_is_never_taken(pick, uniform):
    log_w = torch.tensor([[NEVER, 0.0, NEVER, -1.0, NEVER]]).double()
    taken = pick(log_w, torch.tensor([uniform]).double())
    assert set(taken.flatten().tolist()) <= {1, 3}


def test_a_sample_with_a_nan_weight_keeps_its_own_particles_and_leaves_the_others_alone():
    log_w = log_weights(3)
    spoiled = log_w.clone()
    spoiled[1, 4] = NAN
    clean, poisoned = resample(log_w, grid(3)), resample(spoiled, grid(3))
    assert torch.equal(poisoned[1], torch.arange(P))
    assert torch.equal(poisoned[[0, 2]], clean[[0, 2]])


# ---------------------------------------------------------------- choosing one


def test_a_particle_is_chosen_with_the_probability_of_its_weight():
    log_w, rows = log_weights(1), 4000
    frequency = choose(log_w.expand(rows, P), grid(rows)).bincount(minlength=P) / rows
    torch.testing.assert_close(frequency.double(), log_w.softmax(1)[0], rtol=0, atol=1.01 / rows)


def test_of_a_sample_with_a_nan_weight_the_first_is_chosen_and_the_others_as_ever():
    log_w = log_weights(3)
    spoiled = log_w.clone()
    spoiled[1, 4] = NAN
    clean, poisoned = choose(log_w, grid(3)), choose(spoiled, grid(3))
    assert poisoned[1] == 0
    assert torch.equal(poisoned[[0, 2]], clean[[0, 2]])
