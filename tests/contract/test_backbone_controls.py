"""Wrong backbones, each caught by the check that names its promise."""

import dataclasses

import attrs
import numpy as np
import pytest
import torch
from catching import own_cases
from sound_components import SPATIAL, Backbones, expect_failing
from torch import nn

from hebm.interfaces import Backbone, Loss
from hebm.latents import Posterior
from hebm.likelihoods import GaussianPixels
from hebm.testing import ReferenceBackbone, check_all


class NotInvertible(ReferenceBackbone):
    def invert(self, z, context=None):
        latents = super().invert(z, context)
        return dataclasses.replace(latents, u=latents.u * 1.001)


class WrongLogDet(ReferenceBackbone):
    def latents(self, u, context=None):
        latents = super().latents(u, context)
        return dataclasses.replace(latents, sigma=tuple(2 * s for s in latents.sigma))


class OwnPullback(ReferenceBackbone):
    """It computes the vector-Jacobian product of T by autograd."""

    factor = 1.0

    def latents_and_pullback(self, u, context=None):
        leaf = u.detach().requires_grad_()
        with torch.enable_grad():
            latents = self.latents(leaf, context)
        return latents, lambda grads: self.factor * torch.autograd.grad(latents.z, leaf, grads)[0]


class WrongPullback(OwnPullback):
    factor = 1 + 1e-6


class BatchCoupled(ReferenceBackbone):
    def latents(self, u, context=None):
        latents = super().latents(u, context)
        return dataclasses.replace(latents, z=tuple(z + 0.1 * z.mean(0) for z in latents.z))


class GlobalRandom(ReferenceBackbone):
    def latents(self, u, context=None):
        torch.randn(1)
        return super().latents(u, context)


class GlobalRandomInTraining(ReferenceBackbone):
    def infer(self, batch, noise):
        nn.functional.dropout(batch.x, 0.5, self.training)
        return super().infer(batch, noise)


class IgnoredParameter(ReferenceBackbone):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.ignored = nn.Linear(2, 2)

    def generative(self):
        return (*super().generative(), self.ignored)


class CutGradient(ReferenceBackbone):
    def invert(self, z, context=None):
        return super().invert(z, context).detach()


class GenerativeWithInference(ReferenceBackbone):
    def generative(self):
        return (self,)


class NotReparameterised(ReferenceBackbone):
    def infer(self, batch, noise):
        posterior = super().infer(batch, noise)
        return attrs.evolve(posterior, latents=posterior.latents.detach())


class OwnNoise(ReferenceBackbone):
    def infer(self, batch, noise):
        return super().infer(batch, noise.at(0))


class KLPerImage(ReferenceBackbone):
    def infer(self, batch, noise):
        posterior = super().infer(batch, noise)
        return Posterior(posterior.latents, posterior.log_q, posterior.kl.sum(1))


class UnitsOfZ(ReferenceBackbone):
    def infer(self, batch, noise):
        posterior = super().infer(batch, noise)
        parts = zip(posterior.q_u, posterior.latents.sigma, strict=True)
        return attrs.evolve(posterior, q_u=tuple(q._replace(std=sigma * q.std) for q, sigma in parts))


class StrangerPosterior(ReferenceBackbone):
    def infer(self, batch, noise):
        posterior = super().infer(batch, noise)
        z = tuple(z + 1 for z in posterior.latents.z)
        return attrs.evolve(posterior, latents=dataclasses.replace(posterior.latents, z=z))


class UndeclaredInference(Backbone):
    def __init__(self):
        super().__init__()
        self.inner = ReferenceBackbone()
        self.layout = self.inner.layout

    def latents(self, u, context=None):
        return self.inner.latents(u, context)

    def invert(self, z, context=None):
        return self.inner.invert(z, context)

    def likelihood(self, latents):
        return self.inner.likelihood(latents)

    def infer(self, batch, noise):
        return self.inner.infer(batch, noise)


class CheckedLikelihood(ReferenceBackbone):
    def likelihood(self, latents):
        mean = super().likelihood(latents).mean
        pixels = torch.distributions.Normal(mean, 0.3, validate_args=True)
        return torch.distributions.Independent(pixels, 3, validate_args=True)


class MeanOutOfRange(ReferenceBackbone):
    def likelihood(self, latents):
        return GaussianPixels(255 * super().likelihood(latents).mean, 0.3)


class WrongFold(ReferenceBackbone):
    def folded(self):
        return ReferenceBackbone(self.layout, self.images)


class HiddenState(ReferenceBackbone):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.shift = torch.randn(1)

    def latents(self, u, context=None):
        latents = super().latents(u, context)
        return dataclasses.replace(latents, z=tuple(z + self.shift for z in latents.z))


class SinglePrecision(ReferenceBackbone):
    def likelihood(self, latents):
        return GaussianPixels(super().likelihood(latents).mean.float(), 0.3)


class SharedCopy(ReferenceBackbone):
    def __deepcopy__(self, memo):
        return self


class NumpyInitialised(ReferenceBackbone):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        nn.init.constant_(self.generator.bias, np.random.default_rng().normal())


class CentresInTraining(ReferenceBackbone):
    """T adds a mean that training measures, which T⁻¹ does not know."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.register_buffer("centre", torch.zeros(1))

    def latents(self, u, context=None):
        if self.training:
            self.centre += 0.1 * (u.mean() - self.centre)
        latents = super().latents(u, context)
        return dataclasses.replace(latents, z=tuple(z + self.centre for z in latents.z))


class HiddenByZeros(ReferenceBackbone):
    """T has a term whose three factors all start at 0."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.gate = nn.Parameter(torch.zeros(3))

    def latents(self, u, context=None):
        latents = super().latents(u, context)
        return dataclasses.replace(latents, z=tuple(z + self.gate.prod() for z in latents.z))


class ClampsTails(ReferenceBackbone):
    def latents(self, u, context=None):
        return dataclasses.replace(super().latents(u.clamp(-5, 5), context), u=u)


class InvertsTheBatch(ReferenceBackbone):
    def invert(self, z, context=None):
        latents = super().invert(z, context)
        return dataclasses.replace(latents, u=latents.u + 1e-7 * latents.u.mean(0))


class ScoresTheBatch(ReferenceBackbone):
    def likelihood(self, latents):
        return BatchScore(super().likelihood(latents).mean, 0.3)


class BatchScore(GaussianPixels):
    def log_prob(self, value):
        return super().log_prob(value).mean().expand(len(value))


class CentresImages(ReferenceBackbone):
    def infer(self, batch, noise):
        return super().infer(attrs.evolve(batch, x=batch.x - batch.x.mean(0)), noise)


class AveragesKL(ReferenceBackbone):
    def infer(self, batch, noise):
        posterior = super().infer(batch, noise)
        return attrs.evolve(posterior, kl=posterior.kl.mean(0).expand_as(posterior.kl))


class SumsObjective(ReferenceBackbone):
    def objective(self, batch, noise, progress):
        loss = super().objective(batch, noise, progress)
        return attrs.evolve(loss, total=len(batch.x) * loss.total)


class WorstImage(ReferenceBackbone):
    """Its objective is that of the worst image."""

    def objective(self, batch, noise, progress):
        posterior = self.infer(batch, noise)
        terms = posterior.kl.sum(1) - self.likelihood(posterior.latents).log_prob(batch.target)
        return Loss(terms.max(), {})


BROKEN_BACKBONES = [
    (WrongPullback, "pullback"),
    (CentresInTraining, "inverse-after-training"),
    (HiddenByZeros, "inverse-after-training"),
    (ClampsTails, "inverse-after-training"),
    (InvertsTheBatch, "inversion-rows"),
    (ScoresTheBatch, "inversion-rows"),
    (CentresImages, "inference-rows"),
    (AveragesKL, "inference-rows"),
    (SumsObjective, "objective-rows"),
    (WorstImage, "objective-rows"),
    (NotInvertible, "inverse"),
    (WrongLogDet, "log-determinant"),
    (BatchCoupled, "batch-independence"),
    (GlobalRandom, "no-global-rng"),
    (GlobalRandomInTraining, "no-global-rng"),
    (IgnoredParameter, "generative-gradients"),
    (IgnoredParameter, "objective"),
    (CutGradient, "generative-gradients"),
    (GenerativeWithInference, "generative-gradients"),
    (NotReparameterised, "inference"),
    (StrangerPosterior, "inference"),
    (KLPerImage, "inference"),
    (UndeclaredInference, "inference"),
    (UnitsOfZ, "inferred-conditionals"),
    (OwnNoise, "inference-noise"),
    (CheckedLikelihood, "likelihood"),
    (MeanOutOfRange, "likelihood"),
    (WrongFold, "folded"),
    (HiddenState, "state-dict"),
    (SinglePrecision, "float64"),
    (SharedCopy, "deepcopy"),
    (NumpyInitialised, "seeded-build"),
]


@pytest.mark.parametrize(("kind", "name"), BROKEN_BACKBONES, ids=lambda part: getattr(part, "__name__", part))
def test_a_wrong_backbone_is_caught_by_the_check_of_that_promise(kind, name):
    expect_failing(Backbones(kind), name)


@pytest.mark.parametrize("kind", [ReferenceBackbone, OwnPullback])
def test_a_sound_backbone_passes(kind):
    check_all(own_cases(Backbones(kind)))


def test_spatial_layers_and_a_context_pass_as_well():
    check_all(own_cases(Backbones(lambda: ReferenceBackbone(SPATIAL))))
