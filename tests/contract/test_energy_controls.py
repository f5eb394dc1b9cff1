"""Wrong energies, each caught by the check that names its promise."""

import copy

import pytest
import torch
from catching import own_cases
from sound_components import SPATIAL, Energies, SoundEnergy, expect_failing, uncontrolled
from torch import nn

from hebm.gradients import Gradients
from hebm.interfaces import EnergyFn
from hebm.perturbations import Dropout
from hebm.testing import check_all


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


class DetachedFold(SoundEnergy):
    """Its folded energy has no gradient in the last layer: chains would not follow f."""

    def folded(self, t=None):
        return HalfDetached(self)


class HalfDetached(EnergyFn):
    def __init__(self, whole):
        super().__init__()
        self.whole = whole

    def forward(self, latents, t=None):
        z = torch.cat([latents.z[0], latents.z[1].detach()], dim=1)
        return self.whole.net(z).unsqueeze(1)


class DetachedLayer(SoundEnergy):
    def of_layer(self, latents, layer, t=None):
        return self(latents.detach(), t)[:, layer]


class WrongCount(SoundEnergy):
    def count(self, layout):
        return len(layout)


class CountInEval(SoundEnergy):
    def count(self, layout):
        return self.eval()(layout.zeros(torch.zeros(()))).shape[1]


class SeesImage(SoundEnergy):
    """f(z) + a net of the image."""

    sees = ("latents", "image")

    def __init__(self, layout, logits):
        super().__init__(layout, logits)
        self.of_image = nn.Linear(layout.image[1] * layout.image[2], logits)

    def forward(self, latents, t=None):
        return super().forward(latents) + self.of_image(latents.image.flatten(1)).unsqueeze(1)


class ReadsUndeclared(SeesImage):
    sees = ("latents",)


class ReadsUndeclaredLatents(SeesImage):
    sees = ("image",)


class OnlyImage(SeesImage):
    """A net of the image alone."""

    sees = ("image",)

    def forward(self, latents, t=None):
        return self.of_image(latents.image.flatten(1)).unsqueeze(1)


class ReadsIfShown(SoundEnergy):
    def forward(self, latents, t=None):
        f = super().forward(latents)
        return f + latents.image.mean() if "image" in latents.shown else f


class DeclaresUnread(SoundEnergy):
    sees = ("latents", "features")


class MisspelledSees(SoundEnergy):
    sees = ("picture",)


class SoundDropout(SoundEnergy):
    """Its hidden units are dropped in training."""

    def __init__(self, layout, logits):
        super().__init__(layout, logits)
        self.net.insert(2, Dropout(0.3))


class PerturbsItself(SoundDropout):
    def perturbed(self, noise):
        self.net[2].noise = noise
        return self


class CopiesParameters(SoundDropout):
    def perturbed(self, noise):
        return copy.deepcopy(super().perturbed(noise))


class OneMaskForAllRows(SoundDropout):
    def perturbed(self, noise):
        return OneMask(self, noise)


class OneMask(EnergyFn):
    def __init__(self, whole, noise):
        super().__init__()
        self.whole, self.noise = whole, noise

    def forward(self, latents, t=None):
        return self.whole(latents) * (1 + self.noise.uniform(1, 1, 1))


class OwnNoise(SoundDropout):
    def perturbed(self, noise):
        self.steps = getattr(self, "steps", 0) + 1
        return super().perturbed(noise.derive(self.steps))


class NoisyInTrainMode(SoundDropout):
    def forward(self, latents, t=None):
        f = super().forward(latents)
        return f + self.drawn if self.training else f

    def perturbed(self, noise):
        self.drawn = noise.uniform(1, 1, 1)
        return super().perturbed(noise)

    drawn = 0.0


class OwnGradient(SoundEnergy):
    """It computes the gradient of its net by the chain rule."""

    factor = 1.0

    def value_and_grad(self, latents, t=None):
        first, _, last = self.net
        h = first(latents.flat_z)
        slope = h.sigmoid() * (1 + h * (1 - h.sigmoid()))
        grad = self.factor * (last.weight.sum(0) * slope) @ first.weight
        z = (part.reshape(each.shape) for part, each in zip(self.layout.split(grad), latents.z, strict=True))
        return Gradients(self(latents), tuple(z))


class WrongOwnGradient(OwnGradient):
    factor = 1 + 1e-6


class GradientInAnotherCoordinate(OwnGradient):
    def value_and_grad(self, latents, t=None):
        f, z, _ = super().value_and_grad(latents)
        return Gradients(f, u=self.layout.join(z))


class Penalised(SoundEnergy):
    gradient_penalty = 0.5


class PenaltyPerRow(SoundEnergy):
    def penalty(self, latents, t=None):
        return self(latents).square()


class NegativePenalty(SoundEnergy):
    def penalty(self, latents, t=None):
        return -self(latents).square().mean()


class DetachedPenalty(SoundEnergy):
    def penalty(self, latents, t=None):
        return self(latents).square().mean().detach()


class SoundLevels(SoundEnergy):
    """f depends on the level t."""

    def __init__(self, layout, logits):
        super().__init__(layout, logits)
        self.of_level = nn.Linear(layout.dim, logits)

    def forward(self, latents, t=None):
        level = 0 if t is None else t.to(latents.u).unsqueeze(1)
        return super().forward(latents) + self.of_level(latents.flat_z * (1 + level)).unsqueeze(1)


class FoldsTheFirstLevel(SoundLevels):
    """Its folded energy has the level of the first row in every row."""

    def folded(self, t=None):
        return self if t is None else OneLevel(self, t[:1])


class OneLevel(EnergyFn):
    def __init__(self, whole, level):
        super().__init__()
        self.whole, self.level = whole, level

    def forward(self, latents, t=None):
        return self.whole(latents, self.level.expand(len(latents)))


BROKEN_ENERGIES = [
    (DetachedFold, "folded"),
    (WrongOwnGradient, "own-gradient"),
    (GradientInAnotherCoordinate, "own-gradient"),
    (DetachedLayer, "of-layer"),
    (WrongCount, "count"),
    (CountInEval, "count"),
    (ReadsUndeclared, "sees"),
    (ReadsUndeclaredLatents, "sees"),
    (ReadsIfShown, "sees"),
    (DeclaresUnread, "sees"),
    (MisspelledSees, "sees"),
    (PerturbsItself, "perturbed"),
    (CopiesParameters, "perturbed"),
    (OneMaskForAllRows, "perturbed"),
    (OwnNoise, "perturbed"),
    (NoisyInTrainMode, "perturbed"),
    (PenaltyPerRow, "penalty"),
    (NegativePenalty, "penalty"),
    (DetachedPenalty, "penalty"),
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
    expect_failing(Energies(kind), name)


def test_a_sound_energy_passes():
    check_all(own_cases(Energies(SoundEnergy)))


def test_every_check_of_a_energy_has_a_wrong_example():
    controls = BROKEN_ENERGIES + BROKEN_LEVELS
    assert uncontrolled(Energies(SoundEnergy), controls) <= {"state-dict", "deepcopy", "seeded-build"}


BROKEN_LEVELS = [(SoundEnergy, "levels"), (FoldsTheFirstLevel, "folded")]


@pytest.mark.parametrize(("kind", "name"), BROKEN_LEVELS, ids=lambda part: getattr(part, "__name__", part))
def test_a_wrong_energy_of_several_levels_is_caught(kind, name):
    expect_failing(Energies(kind), name, levels=3)


def test_sound_energies_of_several_levels_and_of_the_image_pass():
    check_all(own_cases(Energies(SoundLevels), levels=3))
    check_all(own_cases(Energies(SeesImage)))


@pytest.mark.parametrize("kind", [SoundDropout, Penalised, OwnGradient])
def test_energies_with_an_optional_ability_pass(kind):
    check_all(own_cases(Energies(kind)))


def test_spatial_layers_and_a_context_pass_as_well():
    check_all(own_cases(Energies(SoundEnergy), layout=SPATIAL))
