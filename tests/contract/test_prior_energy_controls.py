"""Priors whose training leaves out what an energy asks for, each caught by the check of that promise."""

import attrs
import pytest
from sound_components import expect_failing

from hebm.interfaces import Loss
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.priors.joint import Joint, JointPrior


class Unperturbed(JointPrior):
    def objective(self, backbone, posterior, noise, progress, labels=None):
        penalty = self.energy.penalty(posterior.latents)
        return Loss(-self.tilt(posterior.latents).sum(1).mean()).plus("penalty", penalty)


class Unpenalised(JointPrior):
    def objective(self, backbone, posterior, noise, progress, labels=None):
        return Loss(-self.energy.perturbed(noise)(posterior.latents).mean())


@attrs.frozen
class Trained(Joint):
    """`joint` with the objective of another class."""

    energy: MLP = attrs.field(factory=MLP)
    kind: type = Unperturbed

    def build(self, backbone):
        prior = super().build(backbone)
        return self.kind(prior.root, prior.energy, prior.sampler)


BROKEN_TRAINING = [(Unperturbed, "energy-in-training"), (Unpenalised, "energy-in-training")]


@pytest.mark.parametrize(("kind", "name"), BROKEN_TRAINING, ids=lambda part: getattr(part, "__name__", part))
def test_a_prior_that_does_not_regularise_its_energy_is_caught(kind, name):
    expect_failing(Trained(kind=kind), name)
