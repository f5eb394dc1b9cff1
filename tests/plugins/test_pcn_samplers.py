"""pCN and pCN-MALA: their formulas, the acceptance ratio, the limits of the step, cost, what they refuse."""

import math

import pytest
import torch

from hebm.densities import ConditionalPrior, Factor, LatentSpace, LogDensity
from hebm.errors import ConfigError
from hebm.interfaces import StepNoise
from hebm.noise import Noise
from hebm.sampling import Trace, run
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import KnownFactor, points, seeded
from hebm.tilts import Tilt
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.priors.diffusion.recipe import Diffusion
from hebm_plugins.samplers.mala import MALA
from hebm_plugins.samplers.pcn import PCN
from hebm_plugins.samplers.pcn_mala import PCNMALA

ROWS, DIM = 64, 5


def draws(name, *shape):
    return Noise(0, name, dtype=torch.float64).normal(*shape)


def noise(rows=ROWS, dim=DIM, uniform=0.3):
    return StepNoise(draws("xi", rows, dim), torch.full((rows,), uniform, dtype=torch.float64))


def quadratic(v, weight=1.5, seen=DIM):
    return -weight * v[:, :seen].square().sum(1)


def bent(v):
    """Neither quadratic nor a sum over coordinates."""
    return v.sin().sum(1) - 0.3 * v[:, 0] * v[:, 1].square()


FACTOR = Factor(draws("mean", ROWS, DIM), 0.5 + draws("std", ROWS, 1).abs())
SCALED = KnownFactor(bent, FACTOR, 3.0)


def standardised(u):
    return (u - FACTOR.mean) / FACTOR.std


def gradient(v):
    """Return g(v) = ∇_v Φ by autograd."""
    leaf = v.detach().requires_grad_()
    (grad,) = torch.autograd.grad(-bent(leaf).sum(), leaf)
    return grad


def test_a_step_of_pcn_is_its_formula():
    u, given, beta = draws("u", ROWS, DIM), noise(), math.sqrt(0.36)
    v = standardised(u)
    proposed = math.sqrt(1 - beta**2) * v + beta * given.normal
    accept = given.uniform.log() < bent(proposed) - bent(v)
    sampler = PCN(step_size=0.36)
    with torch.no_grad():
        moved, info = sampler.step(SCALED, sampler.init(SCALED, u), given)
    assert 0.2 < float(accept.double().mean()) < 0.9
    assert torch.equal(info.accepted, accept.double())
    torch.testing.assert_close(standardised(moved.u), torch.where(accept[:, None], proposed, v), atol=1e-12, rtol=0)
    assert info.grad is None


def test_a_step_of_pcn_mala_is_its_formula():
    u, given, delta = draws("u", ROWS, DIM), noise(), 0.7
    v = standardised(u)
    g = gradient(v)
    proposed = ((2 - delta) * v - 2 * delta * g + math.sqrt(8 * delta) * given.normal) / (2 + delta)
    sampler = PCNMALA(step_size=2 * delta)
    moved, info = sampler.step(SCALED, sampler.init(SCALED, u), given)
    accept = info.accepted.bool()
    assert 0.2 < float(accept.double().mean()) < 0.9
    torch.testing.assert_close(standardised(moved.u), torch.where(accept[:, None], proposed, v), atol=1e-12, rtol=0)
    torch.testing.assert_close(info.value, SCALED.value_and_grad(moved.u).value, atol=1e-12, rtol=0)
    torch.testing.assert_close(info.grad, SCALED.value_and_grad(moved.u).grad, atol=1e-12, rtol=0)


@pytest.mark.parametrize("delta", [0.01, 0.3, 1.0, 2.0])
def test_the_acceptance_ratio_of_pcn_mala_is_the_explicit_one_of_metropolis_and_hastings(delta):
    sampler, u = PCNMALA(step_size=2 * delta), draws("u", ROWS, DIM)
    here, there = (sampler.init(SCALED, at) for at in (u, u + 0.3 * draws("step", ROWS, DIM)))

    def log_q(w, v):
        """Return the log density of w given v."""
        mean, variance = ((2 - delta) * v - 2 * delta * gradient(v)) / (2 + delta), 8 * delta / (2 + delta) ** 2
        return -0.5 * (w - mean).square().sum(1) / variance

    def log_p(v):
        return bent(v) - 0.5 * v.square().sum(1)

    v, w = standardised(here.u), standardised(there.u)
    explicit = log_p(w) + log_q(v, w) - log_p(v) - log_q(w, v)
    assert float(explicit.abs().max()) > 0.1
    torch.testing.assert_close(sampler.log_ratio(SCALED, here, there), explicit, atol=1e-12, rtol=1e-12)


def test_at_the_largest_step_a_proposal_is_an_independent_draw():
    flat, given = KnownFactor(lambda v: 0 * v.sum(1)), noise()
    for sampler in (PCN(step_size=1.0), PCNMALA(step_size=4.0)):
        with torch.no_grad():
            moved, _ = sampler.step(flat, sampler.init(flat, draws("u", ROWS, DIM)), given)
        torch.testing.assert_close(moved.u, given.normal, atol=1e-12, rtol=0)


def test_a_small_step_of_pcn_mala_is_one_of_langevin_with_the_same_h():
    given, h = noise(uniform=1e-9), 1e-6
    density, u = KnownFactor(bent), draws("u", ROWS, DIM)
    for sampler in (PCNMALA(step_size=h), PCN(step_size=h)):
        with torch.no_grad():
            moved = sampler.step(density, sampler.init(density, u), given)[0].u - u
        drift = 0.5 * h * density.value_and_grad(u).grad
        noisy = moved - math.sqrt(h) * given.normal
        if isinstance(sampler, PCN):
            assert float(noisy.abs().max()) < 10 * h
        else:
            torch.testing.assert_close(noisy, drift, atol=5e-9, rtol=0)


@pytest.mark.parametrize("sampler", [PCN(step_size=0.5), PCNMALA(step_size=4.0), PCNMALA()], ids=str)
def test_every_step_is_accepted_where_f_is_zero(sampler):
    trace = Trace()
    run(
        sampler,
        KnownFactor(lambda v: 0 * v.sum(1), FACTOR),
        draws("u", ROWS, DIM),
        Noise(0, "c", dtype=torch.float64),
        20,
        trace,
    )
    assert bool((torch.stack(trace.accepted) == 1).all())


def acceptance(sampler, dim, chains=64):
    trace, start = Trace(), points(chains, dim) * torch.cat([torch.full((6,), 0.5), torch.ones(dim - 6)])
    run(sampler, KnownFactor(lambda v: quadratic(v, seen=6)), start, Noise(0, "chain"), 3, trace)
    return float(torch.stack(trace.accepted).mean())


def test_acceptance_does_not_fall_with_the_number_of_coordinates_that_f_ignores():
    delta = 0.3
    rates = {
        type(sampler): [acceptance(sampler, dim) for dim in (6, 1000, 20_000)]
        for sampler in (PCN(step_size=0.09), PCNMALA(step_size=2 * delta), MALA(step_size=2 * delta))
    }
    for kind in (PCN, PCNMALA):
        assert min(rates[kind]) > 0.2, rates
        assert max(rates[kind]) - min(rates[kind]) < 0.2, rates
    assert rates[MALA][2] < 0.01


def conditional(backbone, above, weight=0.0):
    """A level of the diffusion prior, with f = −weight |u|²."""
    one = torch.ones(len(above), 1, dtype=torch.float64)
    tilt = Tilt(lambda latents: -weight * latents.u.square())
    return ConditionalPrior(backbone, tilt, above, 0.8 * one, 0.6 * one, one, 2 * one, 0.36 * one)


@pytest.mark.parametrize("sampler", [PCN(step_size=0.4), PCNMALA(step_size=1.2)], ids=str)
def test_levels_of_the_diffusion_prior_keep_their_conditional_law(sampler):
    """log p = −w |u|² / 2 + log N(u; m, s²) is N(m / (1 + w s²), s² / (1 + w s²)); b = 2 halves f."""
    backbone, weight, chains = seeded(ReferenceBackbone).double(), 3.0, 4096
    above = draws("above", 1, backbone.layout.dim).expand(chains, -1)
    mean, std = conditional(backbone, above).factor()
    shrink = 1 + weight * std.square()
    density = conditional(backbone, above, weight)
    u = run(sampler, density, mean + std * draws("start", *above.shape), Noise(0, "c", dtype=torch.float64), 40).u
    errors = (u - mean / shrink) / (std / shrink.sqrt())
    assert float(errors.mean(0).abs().max()) < 4 / math.sqrt(chains)
    assert float((errors.square().mean(0) - 1).abs().max()) < 4 * math.sqrt(2 / chains)


class Counting(LogDensity):
    """N(0, I) that counts the evaluations of its remainder, and how many of them had a gradient."""

    def __init__(self):
        self.calls, self.differentiated = 0, 0

    def remainder(self, u):
        self.calls, self.differentiated = self.calls + 1, self.differentiated + int(u.requires_grad)
        return quadratic(u)


@pytest.mark.parametrize(("sampler", "differentiated"), [(PCN(), 0), (PCNMALA(), 11)], ids=str)
def test_a_step_evaluates_the_remainder_once_and_pcn_no_gradient(sampler, differentiated):
    density = Counting()
    run(sampler, density, points(4, DIM), Noise(0, "chain"), 10)
    assert (density.calls, density.differentiated) == (11, differentiated)


def test_a_density_without_a_known_gaussian_factor_is_refused_when_the_chain_starts():
    backbone = seeded(ReferenceBackbone)
    density = LatentSpace(backbone, Tilt(lambda latents: latents.u))
    for sampler in (PCN(), PCNMALA()):
        name = type(sampler).__name__
        with pytest.raises(ConfigError, match=f"sampler: {name} proposes from .* LatentSpace has no known one; use"):
            run(sampler, density, points(4, backbone.layout.dim), Noise(0, "chain"))


@pytest.mark.parametrize("sampler", [PCN(), PCNMALA()], ids=str)
def test_the_diffusion_priors_official_scale_is_refused_with_the_scale_to_use(sampler):
    backbone = seeded(ReferenceBackbone)
    with pytest.raises(ConfigError, match=r'prior\.sampler: .*use prior\.energy_scale = "paper"'):
        Diffusion(sampler=sampler).build(backbone)
    assert Diffusion(sampler=sampler, energy_scale="paper").build(backbone).sampler is sampler


def test_a_chain_with_fixed_coordinates_moves_the_others_alone():
    backbone = seeded(ReferenceBackbone)
    energy = seeded(lambda: MLP(width=8, zero_init=False).build(backbone.layout))
    above, start = points(32, backbone.layout.dim, name="above"), points(32, backbone.layout.dim)
    one = torch.ones(32, 1)
    tilt = Tilt(lambda latents: energy(latents).squeeze(2), (energy,))
    density = ConditionalPrior(backbone, tilt, above, 0.8 * one, 0.6 * one, one, one, one)
    fixed = backbone.layout.fix(start + 1, {0})
    for sampler in (PCN(), PCNMALA()):
        end = run(sampler, density, start, Noise(0, "chain"), fixed=fixed).u
        assert torch.equal(end[:, fixed.mask], (start + 1)[:, fixed.mask])
        assert bool((end[:, ~fixed.mask] != start[:, ~fixed.mask]).any(1).all())
