"""Energies that see what a prior or a backbone cannot show are refused, with the key and what to use instead."""

import pytest
from torch import nn

from hebm.config.recipes import recipe
from hebm.errors import ConfigError
from hebm.interfaces import EnergyFn, EnergyRecipe, build_energy
from hebm.latents import LatentLayout
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import seeded
from hebm_plugins.energies.feature_mlp import FeatureMLP
from hebm_plugins.energies.image_conv import FeatureConv, ImageConv
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.energies.with_context import WithContext
from hebm_plugins.priors.diffusion.recipe import Diffusion
from hebm_plugins.priors.joint import Joint
from hebm_plugins.priors.multi_stage.recipe import MultiStage
from hebm_plugins.priors.ncp.recipe import NCP
from hebm_plugins.priors.presets import LEBM, AdaptiveCE

INSTEAD = 'use prior.energy.type = "feature-mlp", or prior.type = "multi-stage"'


class Sighted(EnergyFn):
    """A third party's energy, with time and an output for each layer."""

    sees = ("image",)

    def __init__(self, layout, logits):
        super().__init__()
        self.net, self.layers = nn.Linear(1, logits), len(layout)

    def forward(self, latents, t=None):
        return self.net(latents.image.flatten(1).mean(1, keepdim=True)).unsqueeze(1).expand(-1, self.layers, -1)


@recipe
class OfAThirdParty(EnergyRecipe):
    """Builds the energy that a third party wrote."""

    def build(self, layout, logits=1, levels=1):
        return Sighted(layout, logits)


@pytest.mark.parametrize("energy", [ImageConv(), FeatureConv(), OfAThirdParty()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("prior", [NCP, Diffusion])
def test_a_prior_that_moves_single_layers_or_knows_levels_refuses_energies_of_the_image(prior, energy):
    with pytest.raises(ConfigError, match=r"prior\.energy: .*" + INSTEAD):
        prior(energy=energy).build(seeded(ReferenceBackbone))


@pytest.mark.parametrize("prior", [Joint, MultiStage, LEBM, AdaptiveCE])
@pytest.mark.parametrize("energy", [ImageConv(), FeatureConv(), FeatureMLP()], ids=lambda e: type(e).__name__)
def test_a_backbone_that_does_not_show_what_is_seen_is_refused(prior, energy):
    backbone = seeded(ReferenceBackbone)
    prior(energy=energy).build(backbone)
    backbone.layout = LatentLayout(backbone.layout.shapes)
    with pytest.raises(ConfigError, match=r"prior\.energy: this energy sees .* the backbone does not show; use"):
        prior(energy=energy).build(backbone)


def test_the_refusal_needs_no_help_from_the_energy():
    layout = LatentLayout(((3,), (4,)))
    with pytest.raises(ConfigError, match=r"my\.key: this energy sees the decoded image"):
        build_energy(OfAThirdParty(), layout, key="my.key")


@pytest.mark.parametrize("energy", [ImageConv(), FeatureConv(), FeatureMLP(), OfAThirdParty()])
def test_an_energy_with_context_refuses_energies_of_what_is_decoded_from_the_context(energy):
    layout = seeded(lambda: ReferenceBackbone(LatentLayout(((3,), (4,)), context=(2,)))).layout
    with pytest.raises(ConfigError, match=r'"with-context": the inner energy sees .*use that energy alone'):
        WithContext(energy=energy).build(layout)
    assert isinstance(WithContext(energy=MLP()).build(layout), EnergyFn)
