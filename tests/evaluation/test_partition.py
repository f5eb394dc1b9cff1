"""log Z by sequential Monte Carlo: where it is known, which way it errs, and what has none."""

import math

import pytest
import torch
from gaussian_ratios import Walk

from hebm.densities import TiltedPrior
from hebm.errors import ConfigError, NonFiniteError
from hebm.evaluation.partition import _SMC, Annealing, learned_tilt, log_z, log_z_of, unmeasurable
from hebm.gaussian import GaussianPrior
from hebm.interfaces import ImageSpec, Request
from hebm.noise import Noise
from hebm.testing.evaluations import subjects
from hebm.testing.subjects import seeded
from hebm.tilts import Tilt
from hebm.trained import TrainedModel
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.priors.diffusion.recipe import Diffusion
from hebm_plugins.priors.joint import Joint
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.priors.ncp.recipe import NCP
from hebm_plugins.samplers.pcn import PCN
from hebm_plugins.samplers.ula import ULA
from hebm_plugins.two_layer.recipe import TwoLayer

SHARPNESS, SLOPE = (torch.tensor(values, dtype=torch.float64) for values in ((3.0, 0.5), (2.0, -1.0)))
NOISE = Noise(0, "log-z", dtype=torch.float64)


def density(f):
    """f(u) − |u|²/2 in 2-d."""
    return TiltedPrior(Walk(dim=2), Tilt(lambda latents: f(latents.u).unsqueeze(1)))


def quadratic(u):
    return (SLOPE * u - 0.5 * SHARPNESS * u.square()).sum(1)


def ridges(u):
    return 3 * torch.cos(2 * u[:, 0]) + 2 * torch.sin(u[:, 0] * u[:, 1]) + 1.5 * u[:, 1]


EXACT = float(0.5 * (SLOPE.square() / (1 + SHARPNESS) - (1 + SHARPNESS).log()).sum())


def by_quadrature(f):
    axis = torch.linspace(-9, 9, 901, dtype=torch.float64)
    u = torch.cartesian_prod(axis, axis)
    area = math.log(float(axis[1] - axis[0]) ** 2 / (2 * math.pi))
    return float((f(u) - 0.5 * u.square().sum(1)).logsumexp(0)) + area


def close(found, exact):
    return abs(found.value - exact) < 5 * found.error + 0.01


def test_a_quadratic_tilt_has_the_z_of_its_formula():
    found = log_z(density(quadratic), 2, NOISE, Annealing(particles=1024))
    assert close(found, EXACT)
    assert found.error < 0.05
    assert found.powers[-1] == 1
    assert found.share > 0.3


@pytest.mark.parametrize("sampler", [None, PCN(steps=4, target_acceptance=0.5)])
def test_a_tilt_of_several_modes_has_the_z_of_quadrature(sampler):
    annealing = Annealing(particles=1024) if sampler is None else Annealing(particles=1024, sampler=sampler)
    found = log_z(density(ridges), 2, NOISE, annealing)
    assert close(found, by_quadrature(ridges))
    assert found.error < 0.05
    assert len(found.powers) > 2
    assert 0.1 < found.acceptance < 0.9


def test_z_is_unbiased_and_log_z_too_low_by_half_its_variance():
    found = log_z(density(quadratic), 2, NOISE, Annealing(particles=4, repeats=300, sampler=PCN(steps=1)))
    errors = torch.tensor(found.estimates, dtype=torch.float64) - EXACT
    ratio = errors.exp()
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / len(ratio) ** 0.5
    assert found.value < EXACT - 3 * found.error
    assert found.value - EXACT == pytest.approx(found.bias, abs=4 * found.error)


def test_a_constant_tilt_is_its_own_log_z_without_any_move():
    found = log_z(density(lambda u: 1.5 + 0 * u[:, 0]), 2, NOISE, Annealing(particles=64))
    assert found.estimates == pytest.approx([1.5] * 5)
    assert (found.powers, math.isnan(found.acceptance)) == ((1.0,), True)


def test_batches_of_another_size_change_nothing_but_rounding():
    few, all_at_once = (
        log_z(density(ridges), 2, NOISE, Annealing(particles=160, repeats=2), rows) for rows in (64, 512)
    )
    assert few.estimates == pytest.approx(all_at_once.estimates, abs=1e-8)


def test_a_sampler_that_accepts_every_step_is_refused():
    with pytest.raises(ConfigError, match="ULA accepts every step"):
        log_z(density(ridges), 2, NOISE, Annealing(sampler=ULA(steps=1)))


@pytest.mark.parametrize(("value", "count"), [(math.nan, "3[0-9] of 64"), (math.inf, "3[0-9] of 64")])
def test_a_tilt_that_is_not_finite_is_an_error(value, count):
    broken = density(lambda u: torch.where(u[:, 0] > 0, value, u[:, 0]))
    with pytest.raises(NonFiniteError, match=count):
        log_z(broken, 2, NOISE, Annealing(particles=64))


def test_a_tilt_that_forbids_half_of_the_plane_has_half_of_z():
    halved = density(lambda u: torch.where(u[:, 0] > 0, -math.inf, 0.0) + 0 * u[:, 1])
    found = log_z(halved, 2, NOISE, Annealing(particles=1024, share=0.4))
    assert close(found, math.log(0.5))


# ---------------------------------------------------------------- models


def trained(prior, **request):
    backbone = TwoLayer(z_dims=(2, 4), generator="mlp", widths=(8,))
    made = seeded(lambda: backbone.build(ImageSpec(1, 8, 8)))
    return TrainedModel(made, seeded(lambda: prior.build(made)), request=Request(**request))


def test_a_two_layer_model_has_the_z_of_many_draws_of_its_root():
    model = trained(Joint(energy=MLP(width=16, zero_init=False)))
    with torch.no_grad():
        for parameter in model.prior.energy.parameters():
            parameter.mul_(2.5)
        u = Noise(0, "many").normal(100_000, 6)
        f = model.prior.tilt(model.backbone.latents(u)).sum(1).double()
    weights = (f - f.max()).exp()
    exact, error = f.logsumexp(0).item() - math.log(len(f)), (weights.std() / weights.mean() / len(f) ** 0.5).item()
    found = log_z_of(model, Annealing(particles=512))
    assert f.std() > 0.5
    assert abs(found.value - exact) < 4 * (found.error + error) + 0.01
    assert found == log_z_of(model, Annealing(particles=512))


def test_the_official_target_has_a_z_of_its_own():
    exact, official = (trained(Joint(energy=MLP(width=4), target=target)) for target in ("exact", "official"))
    assert log_z_of(exact, Annealing(particles=64)).value == pytest.approx(0, abs=1e-6)  # the net starts at 0
    with torch.no_grad():
        u = Noise(0, "many").normal(50_000, 6)
        expected = (-official.backbone.latents(u).log_sigma).double().logsumexp(0).item() - math.log(50_000)
    assert close(log_z_of(official, Annealing(particles=512)), expected)


def test_what_has_no_log_z_says_why():
    diffusion, root = trained(Diffusion()), trained(Joint())
    root = TrainedModel(root.backbone, GaussianPrior(root.backbone.layout))
    for model, reason in ((diffusion, "chain of conditionals"), (root, "is a root")):
        assert reason in unmeasurable(model)
        with pytest.raises(ConfigError, match=reason):
            log_z_of(model, Annealing())


@pytest.mark.parametrize("prior", [Joint(), MultiStage(), NCP()], ids=lambda prior: type(prior).__name__)
def test_priors_with_a_density_over_u_start_at_log_z_0(prior):
    found = log_z_of(trained(prior), Annealing(particles=64, repeats=2))
    assert found.estimates == pytest.approx([0, 0], abs=1e-5)


def test_a_prior_with_a_context_has_a_z_for_every_context():
    model = subjects(ImageSpec(1, 8, 8), None)["with a context"].evaluation().model
    assert "another Z(c) for every image" in unmeasurable(model)


def test_a_known_log_z_is_not_estimated_and_needs_no_single_context(monkeypatch):
    model = subjects(ImageSpec(1, 8, 8), None)["with a context"].evaluation().model
    monkeypatch.setattr(type(model.prior), "log_z", 1.5, raising=False)
    assert unmeasurable(model) == ""
    found = log_z_of(model, Annealing())
    assert (found.value, found.error, found.bias, str(found)) == (1.5, 0, 0, "log Z = 1.5, exactly")
    latents = model.backbone.latents(torch.zeros(2, 7), torch.ones(2, 1, 2, 2))
    torch.testing.assert_close(learned_tilt(model)(latents), model.prior.tilt(latents).sum(1))


@pytest.mark.parametrize("target", [0.0, 0.9])
def test_step_sizes_follow_a_target_of_acceptance_and_stay_without_one(target):
    wide = 40 * torch.ones(2, dtype=torch.float64)
    smc = _SMC(density(lambda u: -(wide * u.square()).sum(1)), 2, Annealing(sampler=PCN(target_acceptance=target)), 512)
    steps = [rung.sampler.step_size for rung in smc.pilot(NOISE)]
    assert len(steps) > 3
    assert (steps[-1] < steps[0] / 2) if target else (set(steps) == {PCN().step_size})
