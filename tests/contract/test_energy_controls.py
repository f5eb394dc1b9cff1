"""Wrong energies, each caught by the check that names its promise."""

import pytest
import torch
from sound_components import SPATIAL, Energies, SoundEnergy, expect_caught, own, uncontrolled
from torch import nn

from hebm.testing import cases, check_all


class FlatShape(SoundEnergy):
    def forward(self, latents, t=None):
        return super().forward(latents).squeeze(1)


class BatchNormed(SoundEnergy):
    def forward(self, latents, t=None):
        f = super().forward(latents)
        return f - f.mean(0)


class IdleEnergyParameter(SoundEnergy):
    def __init__(self, layout, logits):
        super().__init__(layout, logits)
        self.idle = nn.Parameter(torch.zeros(1))


class TopBlind(SoundEnergy):
    def forward(self, latents, t=None):
        return self.net(torch.cat([0 * latents.z[0], latents.z[1]], dim=1)).unsqueeze(1)


class Detaching(SoundEnergy):
    def forward(self, latents, t=None):
        return self.net(latents.flat_z.detach()).unsqueeze(1)


class Dropping(SoundEnergy):
    def forward(self, latents, t=None):
        return nn.functional.dropout(super().forward(latents), 0.5, self.training)


class FeatureReader(SoundEnergy):
    def forward(self, latents, t=None):
        return super().forward(latents) + (1.0 if latents.u.requires_grad or latents.z[1].requires_grad else 0.0)


class WrongEnergyFold(SoundEnergy):
    def folded(self, t=None):
        return SoundEnergy(self.layout, self.logits)


class BottomFirst(SoundEnergy):
    def forward(self, latents, t=None):
        f = super().forward(latents)
        return torch.cat([f, 2 * f], dim=1)

    def of_layer(self, latents, layer, t=None):
        return self(latents, t)[:, -1 - layer]


class FloatOnly(SoundEnergy):
    def forward(self, latents, t=None):
        return super().forward(latents).float()


BROKEN_ENERGIES = [
    (FlatShape, "shape"),
    (BatchNormed, "batch-independence"),
    (IdleEnergyParameter, "parameter-gradients"),
    (TopBlind, "latent-gradients"),
    (Detaching, "latent-gradients"),
    (Dropping, "no-global-rng"),
    (FeatureReader, "detached"),
    (WrongEnergyFold, "folded"),
    (BottomFirst, "of-layer"),
    (FloatOnly, "float64"),
]


@pytest.mark.parametrize(("kind", "name"), BROKEN_ENERGIES, ids=lambda part: getattr(part, "__name__", part))
def test_a_wrong_energy_is_caught_by_the_check_of_that_promise(kind, name):
    expect_caught(Energies(kind), name)


def test_a_sound_energy_passes():
    check_all(own(cases(Energies(SoundEnergy))))


def test_every_check_of_a_energy_has_a_wrong_example():
    assert uncontrolled(Energies(SoundEnergy), BROKEN_ENERGIES) <= {"state-dict", "deepcopy", "seeded-build"}


def test_spatial_layers_and_a_context_pass_as_well():
    check_all(own(cases(Energies(SoundEnergy), layout=SPATIAL)))
