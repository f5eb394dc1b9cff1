"""Priors whose validation shows something else than they learn, each caught by the check of that promise."""

import copy

import pytest
import torch
from catching import own_cases
from sound_components import Priors, SoundPrior, expect_failing

from hebm.contrasts import bce
from hebm.interfaces import Contrasted, LearnsByContrast, Loss
from hebm.testing import cases, check_all

CHECKS = ("contrast", "contrast-rows", "contrast-learning")


class SoundContrast(SoundPrior):
    """Tells posterior draws from draws of its root."""

    def negatives(self, backbone, latents, noise):
        u = self.root.sample(backbone, len(latents), noise.derive("negative")).u
        return backbone.latents(u, latents.context).detach()

    def log_ratio(self, latents):
        return self.tilt(latents).sum(1)

    def objective(self, backbone, posterior, noise, progress, labels=None):
        negative = self.negatives(backbone, posterior.latents, noise)
        return Loss(bce(self.log_ratio(posterior.latents), self.log_ratio(negative)))

    def contrasted(self, backbone, latents, noise):
        return Contrasted(latents, self.negatives(backbone, latents, noise), self.log_ratio)


class Exchanged(SoundContrast):
    def contrasted(self, backbone, latents, noise):
        made = super().contrasted(backbone, latents, noise)
        return Contrasted(made.negative, made.positive, self.log_ratio)


class Energy(SoundContrast):
    """Shows the energy, −f, as its log ratio."""

    def contrasted(self, backbone, latents, noise):
        made = super().contrasted(backbone, latents, noise)
        return Contrasted(made.positive, made.negative, lambda at: -self.log_ratio(at))


class OldWeights(SoundContrast):
    def contrasted(self, backbone, latents, noise):
        made, energy = super().contrasted(backbone, latents, noise), copy.deepcopy(self.energy)
        return Contrasted(made.positive, made.negative, lambda at: energy(at).squeeze(2).sum(1))


class PerEnergy(SoundContrast):
    def contrasted(self, backbone, latents, noise):
        made = super().contrasted(backbone, latents, noise)
        return Contrasted(made.positive, made.negative, self.energy)


class FewNegatives(SoundContrast):
    def contrasted(self, backbone, latents, noise):
        negative = self.negatives(backbone, backbone.latents(latents.u[:2]), noise)
        return Contrasted(latents, negative, self.log_ratio)


class GlobalNegatives(SoundContrast):
    def contrasted(self, backbone, latents, noise):
        return Contrasted(latents, backbone.latents(torch.randn_like(latents.u)), self.log_ratio)


class SameNegatives(SoundContrast):
    def contrasted(self, backbone, latents, noise):
        return super().contrasted(backbone, latents, noise.at(0))


class FixedNegatives(SoundContrast):
    """Shows negatives that it keeps."""

    def contrasted(self, backbone, latents, noise):
        return Contrasted(latents, backbone.latents(latents.u.flip(1)), self.log_ratio)


class CountsValidation(SoundContrast):
    """What training draws depends on how often it was validated."""

    calls = 0

    def contrasted(self, backbone, latents, noise):
        self.calls += 1
        return super().contrasted(backbone, latents, noise)

    def objective(self, backbone, posterior, noise, progress, labels=None):
        return super().objective(backbone, posterior, noise.derive(self.calls), progress)


class LearnsWhileValidated(SoundContrast):
    def contrasted(self, backbone, latents, noise):
        for parameter in self.energy.parameters():
            parameter.data.mul_(0.9)
        return super().contrasted(backbone, latents, noise)


WRONG = [
    (Exchanged, "contrast"),
    (Exchanged, "contrast-learning"),
    (Energy, "contrast-learning"),
    (OldWeights, "contrast-learning"),
    (PerEnergy, "contrast"),
    (FewNegatives, "contrast"),
    (GlobalNegatives, "contrast-rows"),
    (SameNegatives, "contrast-rows"),
    (FixedNegatives, "contrast-rows"),
    (CountsValidation, "contrast"),
    (LearnsWhileValidated, "contrast"),
]


@pytest.mark.parametrize(("kind", "name"), WRONG, ids=lambda part: getattr(part, "__name__", part))
def test_a_wrong_contrast_is_caught_by_the_check_of_that_promise(kind, name):
    expect_failing(Priors(kind), name)


def test_a_sound_contrast_passes():
    assert issubclass(SoundContrast, LearnsByContrast)
    check_all([case for case in own_cases(Priors(SoundContrast)) if case.name in CHECKS])


def test_every_check_of_contrasts_has_a_wrong_example():
    assert {name for _, name in WRONG} == set(CHECKS)
    assert set(CHECKS) <= {case.name for case in cases(Priors(SoundContrast))}
