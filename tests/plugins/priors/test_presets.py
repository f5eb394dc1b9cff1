"""Flat priors of the literature: existing components at the published settings."""

import pytest
import torch

from hebm.interfaces import Progress
from hebm.latents import LatentLayout, Posterior
from hebm.noise import Noise
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import perturbed, points, seeded
from hebm_plugins.energies.mlp import ConcatEnergy, MLPConcat
from hebm_plugins.priors.joint import Joint, JointPrior
from hebm_plugins.priors.multi_stage.prior import MultiStagePrior
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.priors.multi_stage.settings import Contrast
from hebm_plugins.priors.presets import LEBM, AdaptiveCE
from hebm_plugins.samplers.langevin import Langevin

DIM = 5
PUBLISHED = {
    "energy": MLPConcat(width=200, depth=2, activation="leaky-relu"),
    "sampler": Langevin(steps=60, step_size=0.4, convention="std"),
}
PRESETS = {"lebm": (LEBM, Joint, JointPrior), "adaptive-ce": (AdaptiveCE, MultiStage, MultiStagePrior)}


@pytest.fixture
def flat():
    return seeded(lambda: ReferenceBackbone(LatentLayout(((DIM,),)))).double()


def built(recipe, backbone):
    prior = perturbed(seeded(lambda: recipe.build(backbone))).double()
    for stage in prior.stages():
        if stage.start is not None:
            stage.start(backbone, Noise(0, "begin", dtype=torch.float64))
    return prior


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_general_prior_at_the_published_settings(flat, name):
    preset, general, live = PRESETS[name]
    priors = [built(recipe, flat) for recipe in (preset(), general(**PUBLISHED))]
    assert type(priors[0]) is live
    assert {key: value.shape for key, value in priors[0].state_dict().items()} == {
        key: value.shape for key, value in priors[1].state_dict().items()
    }
    a, b = (prior.sample(flat, 4, Noise(0, "s", dtype=torch.float64)).u for prior in priors)
    assert torch.equal(a, b)


@pytest.mark.parametrize("preset", [LEBM(), AdaptiveCE()])
def test_the_net_has_two_layers_of_200_and_the_chain_60_steps_of_04(flat, preset):
    energy = preset.energy.build(flat.layout)
    assert isinstance(energy, ConcatEnergy)
    shapes = [tuple(layer.weight.shape) for layer in energy.net if hasattr(layer, "weight")]
    assert shapes == [(200, DIM), (200, 200), (1, 200)]
    assert [layer.negative_slope for layer in energy.net if hasattr(layer, "negative_slope")] == [0.2, 0.2]
    assert preset.sampler.steps == 60
    assert preset.sampler.h == pytest.approx(0.16)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_trains_on_one_flat_layer(flat, name):
    prior = built(PRESETS[name][0](), flat)
    with torch.no_grad():
        posterior = Posterior(flat.latents(points(6, DIM, torch.float64)).detach())
    for stage in prior.stages():
        noise = Noise(0, "o", dtype=torch.float64)
        stage.objective(flat, posterior, noise, Progress(0, 1)).total.backward()
        assert all(p.grad.isfinite().all() for p in stage.module.parameters())


def test_adaptive_ce_can_take_the_stage_before_for_its_negatives(flat):
    prior = built(AdaptiveCE(contrast=Contrast(negatives="posterior", pool=32)), flat)
    assert prior.bank is not None
    assert [stage.name for stage in prior.stages()] == ["stage 1", "stage 2", "stage 3"]
