"""A prior of energies that see one layer each is recognised, and its users are told."""

import pytest
import torch
from real_runs import tiny

import hebm
from hebm.densities import frozen
from hebm.interfaces import EnergyFn
from hebm.latents import LatentLayout
from hebm.noise import Noise
from hebm.single_layer_energies import advice, single_layer_energies
from hebm.testing.subjects import ReferenceBackbone, seeded
from hebm.training.phases import start_stage
from hebm_plugins.energies.mlp import MLP, MLPConcat
from hebm_plugins.energies.mlp_time import MLPTime
from hebm_plugins.priors.diffusion.recipe import Diffusion
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.priors.ncp.recipe import NCP

DEEP = LatentLayout(((2,), (3,), (2,), (4,)))


def found(recipe):
    backbone = seeded(lambda: ReferenceBackbone(DEEP))
    prior = seeded(lambda: recipe.build(backbone))
    with frozen(backbone):
        for stage in prior.stages():
            start_stage(stage, backbone, Noise(0, "start"))
    return single_layer_energies(prior, backbone.layout)


@pytest.mark.parametrize(
    "recipe",
    [
        hebm.Joint(energy=MLP(width=4)),
        MultiStage(stages=2, energy=MLP(width=4)),
        Diffusion(levels=2, energy=MLPTime(width=4)),
        NCP(energy=MLP(width=4, coordinate="z-given-above")),
    ],
    ids=lambda recipe: type(recipe).__name__,
)
def test_a_prior_with_an_energy_for_each_layer_is_recognised(recipe):
    assert found(recipe) == 4


def test_a_root_and_an_energy_over_all_layers_are_not():
    assert found(hebm.Gaussian()) == 0
    assert found(hebm.Joint(energy=MLPConcat(width=4))) == 0


class SeesTheImage(EnergyFn):
    sees = ("image",)

    def forward(self, latents, t=None):
        return latents.image.mean((1, 2, 3)).view(-1, 1, 1).expand(-1, 4, 1)


def test_an_energy_that_sees_more_than_latents_is_not_whatever_its_outputs():
    backbone = seeded(lambda: ReferenceBackbone(DEEP))
    prior = seeded(lambda: hebm.Joint(energy=MLP(width=4)).build(backbone))
    prior.energy = SeesTheImage()
    assert single_layer_energies(prior, backbone.layout) == 0


def test_asking_leaves_the_priors_mode_as_it_was():
    backbone = seeded(lambda: ReferenceBackbone(DEEP))
    prior = seeded(lambda: hebm.Joint(energy=MLP(width=4)).build(backbone)).train()
    prior.energy.nets[0].eval()
    before = {name: module.training for name, module in prior.named_modules()}
    with torch.random.fork_rng(devices=[]):
        single_layer_energies(prior, backbone.layout)
    assert {name: module.training for name, module in prior.named_modules()} == before


def test_shallow_hierarchies_get_no_advice_and_deep_ones_name_the_analysis():
    assert advice(0) == advice(3) == ""
    assert "one of 6 layers" in advice(6)
    assert "hebm analyse RUN hole" in advice(6)


def test_a_check_gives_the_advice_for_a_deep_backbone_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    deep = hebm.check(hebm.Experiment.from_table(tiny(backbone={"z_dims": [2, 2, 2, 2]})))
    shallow = hebm.check(hebm.Experiment.from_table(tiny()))
    assert f"note: {advice(4)}" in deep.lines
    assert "hebm analyse" not in str(shallow)
