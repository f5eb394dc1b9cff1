"""Priors whose training leaves out what an energy asks for, each caught by the check of that promise."""

import attrs
import pytest
from sound_components import expect_failing

from hebm.interfaces import Loss
from hebm.testing import ReferenceBackbone
from hebm.testing.prior_reads import check_reads
from hebm.testing.subjects import seeded
from hebm_plugins.energies.image_conv import ImageConv
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


class ReadsUnsaid(JointPrior):
    """Its energy sees the image alone, and its loss weighs by u as well."""

    def objective(self, backbone, posterior, noise, progress, labels=None):
        loss = super().objective(backbone, posterior, noise, progress, labels)
        return loss.plus("radius", posterior.latents.u.square().mean())


class ReadsSaid(ReadsUnsaid):
    def __init__(self, *parts):
        super().__init__(*parts)
        self.reads = ("latents",)


IMAGE = ImageConv(channels=2, width=5)
BROKEN_TRAINING = [
    (Unperturbed, "energy-in-training"),
    (Unpenalised, "energy-in-training"),
    (ReadsUnsaid, "reads"),
]


@pytest.mark.parametrize(("kind", "name"), BROKEN_TRAINING, ids=lambda part: getattr(part, "__name__", part))
def test_a_prior_that_leaves_out_what_its_energy_or_its_draws_need_is_caught(kind, name):
    expect_failing(Trained(energy=IMAGE, kind=kind), name)


def test_a_prior_that_says_what_it_reads_passes():
    check_reads(Trained(energy=IMAGE, kind=ReadsSaid), seeded(ReferenceBackbone))
