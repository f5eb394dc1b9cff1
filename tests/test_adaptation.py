"""Step sizes adapted to a rate of acceptance: reached, frozen, the same for every draw, reported."""

import math

import attrs
import pytest
import torch

import hebm.adaptation
from hebm.compilation import Compiled
from hebm.cuda_graphs import Graphed
from hebm.interfaces import MCMC, Request
from hebm.model import Model
from hebm.noise import Noise
from hebm.samplers import Adapts
from hebm.sampling import Trace
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import perturbed, seeded
from hebm.trained import TrainedModel
from hebm_plugins.analyses.chain_recording import record
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.energies.mlp_time import MLPTime
from hebm_plugins.priors.diffusion.recipe import Diffusion
from hebm_plugins.priors.joint import Joint
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.priors.multi_stage.settings import Drawing
from hebm_plugins.priors.ncp.recipe import NCP
from hebm_plugins.samplers.mala import MALA
from hebm_plugins.samplers.pcn import PCN
from hebm_plugins.samplers.pcn_mala import PCNMALA
from hebm_plugins.samplers.ula import ULA

CHAIN = PCNMALA(steps=8, target_acceptance=0.7)


@pytest.fixture(scope="module")
def backbone():
    return seeded(ReferenceBackbone)


def model_of(backbone, recipe=None, **options):
    recipe = recipe or Joint(energy=MLP(width=16), sampler=CHAIN)
    prior = perturbed(seeded(lambda: recipe.build(backbone)), 1.0)
    if isinstance(recipe, MultiStage):
        prior.trained_stages = recipe.stages
    return TrainedModel(backbone, prior, seed=7, **options)


def acceptance(model, n=512):
    trace = Trace()
    list(model.walk(n, Noise(3, "fresh"), Request(observe=trace)))
    return float(torch.stack(trace.accepted).mean())


@pytest.mark.parametrize("kind", [MALA, PCN, PCNMALA])
@pytest.mark.parametrize("start", [0.01, 1.0])
def test_fresh_chains_accept_as_often_as_was_asked_wherever_the_search_began(kind, start, backbone):
    sampler = kind(steps=20, step_size=start, target_acceptance=0.7)
    model = model_of(backbone, Joint(energy=MLP(width=16), sampler=sampler))
    assert abs(acceptance(model) - 0.7) < 0.08
    (found,) = model.adaptations.values()
    assert abs(found.acceptance - 0.7) < 0.08
    assert model.path[-1].sampler == attrs.evolve(sampler, step_size=found.step_size)


def test_without_a_target_draws_are_those_of_the_prior_itself(backbone):
    model = model_of(backbone, Joint(energy=MLP(width=16), sampler=PCNMALA(steps=8)))
    own = model.prior.eval().sample(backbone, 70, Noise(0, "d"))
    assert torch.equal(model.draw(70, Noise(0, "d")).u, own.u)
    assert not model.adaptations
    assert model.path[-1].sampler is model.prior.sampler


def test_a_sample_depends_on_the_seed_and_its_number_alone(backbone):
    whole = model_of(backbone).draw(140, Noise(7, "d"))
    late = model_of(backbone, rows=64)
    list(late.walk(5, Noise(1, "other"), Request(steps=3)))  # what was drawn before
    torch.testing.assert_close(late.draw(12, Noise(7, "d", start=128)).u, whole.u[128:])


@pytest.mark.parametrize("request_", [Request(), Request(steps=2)], ids=["plain", "short"])
def test_the_step_size_belongs_to_the_weights_and_to_no_request_or_seed(request_, backbone):
    first = model_of(backbone)
    other = TrainedModel(backbone, first.prior, seed=8, request=request_, rows=64)
    assert first.path[-1].sampler == other.path[-1].sampler
    assert first.adaptations == other.adaptations


def test_training_and_the_prior_keep_the_configured_step_size(backbone):
    model = model_of(backbone)
    model.draw(5, Noise(0, "d"))
    (chain,) = model.prior.transitions(backbone)
    assert chain.sampler is CHAIN
    assert model.path[-1].sampler.step_size != CHAIN.step_size


RECIPES = {
    "progressive": MultiStage(
        stages=2, energy=MLP(width=8), sampler=CHAIN, drawing=Drawing(mode="progressive"), start_proposals=3
    ),
    "smc": MultiStage(stages=2, energy=MLP(width=8), sampler=CHAIN, drawing=Drawing(mode="smc", particles=3)),
    "diffusion": Diffusion(levels=2, energy=MLPTime(width=8), sampler=CHAIN, energy_scale="paper"),
    "ncp": NCP(energy=MLP(width=8, coordinate="z-given-above"), sampling="langevin", sampler=CHAIN),
}


@pytest.mark.parametrize("name", RECIPES)
def test_each_chain_of_a_path_has_a_step_size_of_its_own_and_every_draw_uses_it(name, backbone):
    model = model_of(backbone, RECIPES[name])
    chains = [transition for transition in model.path if isinstance(transition, MCMC)]
    assert list(model.adaptations) == [chain.name for chain in chains]
    assert [chain.sampler.step_size for chain in chains] == [found.step_size for found in model.adaptations.values()]
    *_, (_, walked) = model.walk(6, Noise(0, "d"))
    assert torch.equal(model.draw(6, Noise(0, "d")).u, walked.u)
    configured = model.prior.sample(model.generator, 6, Noise(0, "d"))
    assert not torch.equal(configured.u, walked.u)


def test_analyses_lengthen_the_adapted_chains(backbone):
    model = model_of(backbone)
    (chain,) = record(model, 5, 1, 2, 5)
    assert torch.equal(chain.states[-1][1], model.draw(5, model.noise("prior")).u)


def test_a_model_adapts_once_until_its_weights_change(backbone, monkeypatch):
    calls, original = [], hebm.adaptation._adapt
    monkeypatch.setattr(hebm.adaptation, "_adapt", lambda *a: calls.append(a[3].name) or original(*a))
    model = Model(backbone, model_of(backbone).prior)
    first = model.sample(4)
    model.sample(4, seed=1), model.sample(4, after="prior")
    assert torch.equal(model.sample(4), first)
    assert calls == ["prior"]
    perturbed(model.prior, 0.01)
    model.sample(4)
    assert calls == ["prior", "prior"]


def test_checking_the_name_of_a_transition_computes_nothing(backbone, monkeypatch):
    monkeypatch.setattr(hebm.adaptation, "_adapt", lambda *a: pytest.fail("adapted"))
    model = model_of(backbone)
    model.check_request()
    assert model.chain_lengths == {"prior": 8}


def test_accelerated_samplers_stay_accelerated(backbone):
    for wrap in (Graphed, lambda sampler: Compiled(sampler, "eager")):
        sampler = wrap(CHAIN)
        assert isinstance(sampler, Adapts)
        assert sampler.plain is CHAIN
        other = sampler.with_step_size(0.25)
        assert type(other) is type(sampler)
        assert other.step_size == 0.25
        assert not isinstance(wrap(ULA()), Adapts)
    plain, graphed = (
        model_of(backbone, Joint(energy=MLP(width=16), sampler=each)).draw(5, Noise(0, "d")).u
        for each in (CHAIN, Graphed(CHAIN))
    )
    assert torch.equal(plain, graphed)


def test_chains_that_accept_nothing_are_reported_and_not_repaired(backbone):
    model = model_of(backbone)
    with torch.no_grad():
        for parameter in model.prior.parameters():
            parameter.fill_(math.nan)
    model.draw(5, Noise(0, "d"))
    (found,) = model.adaptations.values()
    assert found.acceptance == 0
    assert found.step_size < CHAIN.step_size
