"""First-party priors: the baseline draws N(0, I); the joint prior follows the gradient of the likelihood and learns."""

import math

import pytest
import torch
from torch import nn

from hebm.errors import ConfigError, PluginError
from hebm.gaussian import Gaussian, GaussianPrior
from hebm.interfaces import PriorLearner, Progress, Request
from hebm.latents import LatentLayout, Posterior
from hebm.noise import Noise
from hebm.sampling import States, run
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import contexts, points, seeded
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.priors.joint import Joint, JointPrior
from hebm_plugins.samplers.ula import ULA

LEARNABLE = Joint(energy=MLP(width=16, depth=1, zero_init=False), sampler=ULA(steps=20, step_size=0.2))
CONTEXTUAL = LatentLayout(((3,), (4,)), context=(2,))


@pytest.fixture
def backbone():
    return seeded(ReferenceBackbone)


@pytest.fixture
def prior(backbone):
    return seeded(lambda: LEARNABLE.build(backbone))


def posterior_of(backbone, u, context=None):
    with torch.no_grad():
        return Posterior(backbone.latents(u, context).detach())


def test_the_gaussian_prior_is_the_noise_itself(backbone):
    prior = Gaussian().build(backbone)
    assert torch.equal(prior.sample(backbone, 9, Noise(0, "a")).u, Noise(0, "a").normal(9, 7))
    assert prior.stages() == ()
    assert prior.root is None
    assert not list(prior.parameters())
    with pytest.raises(NotImplementedError, match="nothing to train"):
        prior.objective(backbone, posterior_of(backbone, points(2, 7)), Noise(0), Progress(0, 1))


class LoosePrior(JointPrior):
    """A prior with a scale of its own, which is in no sub-module."""

    def __init__(self, root, energy, sampler):
        super().__init__(root, energy, sampler)
        self.scale = nn.Parameter(torch.ones(()))

    stages = PriorLearner.stages


def test_parameters_that_no_stage_would_train_are_refused(backbone):
    prior = LoosePrior(Gaussian().build(backbone), MLP(width=4).build(backbone.layout), ULA())
    with pytest.raises(PluginError, match="LoosePrior: parameters scale are set on the prior itself; put them into a"):
        prior.stages()


def test_the_gaussian_density_is_its_formula(backbone):
    u = points(4, 7)
    value, grad = Gaussian().build(backbone).density(backbone).value_and_grad(u)
    assert torch.allclose(value, -0.5 * u.square().sum(1))
    assert torch.allclose(grad, -u)


@pytest.mark.parametrize("recipe", [Gaussian(), Joint()])
def test_a_backbone_with_context_needs_a_root_that_draws_it(recipe):
    backbone = ReferenceBackbone(CONTEXTUAL)
    with pytest.raises(ConfigError, match=r"context of shape \(2,\)"):
        recipe.build(backbone)


class ContextRoot(GaussianPrior):
    """Draws u ~ N(0, I) and a context."""

    context = (2,)

    def context_bound(self, context, noise):
        return context.sum(1)

    context_weight = context_bound

    def sample(self, backbone, n, noise, request=Request()):
        draw = super().sample(backbone, n, noise)
        context = noise.derive("context").normal(n, 2) if request.context is None else request.context
        return type(draw)(draw.u, context)


def test_a_chain_keeps_the_context_that_the_root_drew():
    backbone = seeded(lambda: ReferenceBackbone(CONTEXTUAL))
    energy = seeded(lambda: LEARNABLE.energy.build(CONTEXTUAL))
    prior = JointPrior(ContextRoot(CONTEXTUAL), energy, LEARNABLE.sampler)
    draw = prior.sample(backbone, 5, Noise(0, "a"))
    start = prior.root.sample(backbone, 5, Noise(0, "a").derive("base"))
    assert torch.equal(draw.context, start.context)
    chain = run(prior.sampler, prior.density(backbone, start.context), start.u, Noise(0, "a", "chain"))
    assert torch.equal(draw.u, chain.u)


def test_negatives_use_the_context_of_the_positives():
    backbone = seeded(lambda: ReferenceBackbone(CONTEXTUAL))
    prior = JointPrior(ContextRoot(CONTEXTUAL), LEARNABLE.energy.build(CONTEXTUAL), LEARNABLE.sampler)
    context = contexts(CONTEXTUAL, 5)
    positive = posterior_of(backbone, points(5, 7), context)
    negative = prior.objective(backbone, positive, Noise(0), Progress(0, 1)).negative
    assert torch.equal(negative.context, context)
    assert torch.allclose(negative.flat_z, backbone.latents(negative.u, context).flat_z)


def test_a_zero_energy_leaves_the_root(backbone):
    prior = Joint(sampler=ULA(steps=20, step_size=0.1)).build(backbone)
    u = prior.sample(backbone, 4096, Noise(0, "a")).u
    # Euler from variance 1: v ← (1 − h/2)² v + h
    var = 1.0
    for _ in range(20):
        var = 0.95**2 * var + 0.1
    assert abs(float(u.square().mean()) - var) < 4 * var * math.sqrt(2 / u.numel())
    assert abs(float(u.mean())) < 4 * math.sqrt(var / u.numel())


def test_the_loss_is_the_difference_of_the_tilts(backbone, prior):
    positive = posterior_of(backbone, points(64, 7))
    loss = prior.objective(backbone, positive, Noise(0, "a"), Progress(0, 1))
    f_positive, f_negative = (prior.tilt(part).sum(1).mean() for part in (positive.latents, loss.negative))
    assert torch.allclose(loss.total, f_negative - f_positive)
    assert torch.allclose(loss.terms["f_positive"], f_positive)
    assert float(loss.terms["nonfinite_chains"]) == 0


def test_chains_that_become_nan_are_counted_in_the_terms(backbone, prior):
    with torch.no_grad():
        prior.energy.nets[0][-1].weight.fill_(math.nan)
    loss = prior.objective(backbone, posterior_of(backbone, points(9, 7)), Noise(0, "a"), Progress(0, 1))
    assert float(loss.terms["nonfinite_chains"]) == 9


def test_the_official_target_differs_by_log_sigma(backbone, prior):
    official = seeded(lambda: Joint(energy=LEARNABLE.energy, target="official").build(backbone))
    u = points(6, 7)
    with torch.no_grad():
        difference = prior.density(backbone).remainder(u) - official.density(backbone).remainder(u)
        assert torch.allclose(difference, backbone.latents(u).log_sigma, atol=1e-5)


def test_steps_and_observer_reach_the_chain(backbone, prior):
    states = States()
    prior.sample(backbone, 3, Noise(0, "a"), Request(steps=4, observe=states))
    assert len(states.u) == 4


def test_it_has_one_stage_whose_module_is_the_energy(prior):
    (stage,) = prior.stages()
    assert stage.name == "prior"
    assert stage.module is prior.energy
    assert not stage.with_backbone


def test_it_learns_where_the_posterior_is():
    layout = LatentLayout(((2,),))
    backbone = seeded(lambda: ReferenceBackbone(layout))
    prior = seeded(lambda: LEARNABLE.build(backbone))
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.02)
    mean, std = torch.tensor([1.0, -0.5]), torch.tensor([0.6, 1.0])
    for step in range(150):
        positive = posterior_of(backbone, mean + std * Noise(0, "posterior", step).normal(128, 2))
        optimizer.zero_grad()
        prior.objective(backbone, positive, Noise(0, "prior", step), Progress(step, 150)).total.backward()
        optimizer.step()
    u = prior.sample(backbone, 4096, Noise(0, "sample")).u
    assert torch.allclose(u.mean(0), mean, atol=0.15)
    assert torch.allclose(u.std(0), std, atol=0.15)
