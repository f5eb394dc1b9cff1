"""Wrong distributions p(x|z), each caught by the check that names its promise, and right ones of other kinds."""

import math

import pytest
import torch
from sound_components import Backbones, expect_failing, uncontrolled
from test_backbone_controls import BROKEN_BACKBONES
from torch.distributions import Independent, Laplace, Normal

from hebm.likelihoods import BernoulliPixels, GaussianPixels, PixelDistribution
from hebm.testing import ReferenceBackbone, cases


def backbone_of(pixels):
    """A backbone whose likelihood is `pixels(mean)`, for means in (−1, 1)."""

    class Decodes(ReferenceBackbone):
        def likelihood(self, latents):
            return pixels(super().likelihood(latents).mean)

    return Backbones(Decodes)


class Gaussian(GaussianPixels):
    def __init__(self, mean):
        super().__init__(mean, 0.3)


class NoConstant(Gaussian):
    def log_prob(self, value):
        return -(value - self.mean).square().flatten(1).sum(1) / (2 * self.std**2)


class AveragesPixels(Gaussian):
    def log_prob(self, value):
        return super().log_prob(value) / self.mean[0].numel()


class Bernoulli(BernoulliPixels):
    def __init__(self, mean):
        super().__init__(2 * mean)


class NoSoftplus(Bernoulli):
    def log_prob(self, value):
        return (0.5 * (value + 1) * self.logits).flatten(1).sum(1)


class MeanIsProbability(Bernoulli):
    @property
    def mean(self):
        return self.logits.sigmoid()


class FairCoins(Bernoulli):
    """Draws the pixels of another probability than it scores."""

    def draw(self, noise):
        return 2 * (noise.uniform(*self.logits.shape) < 0.5).to(self.logits) - 1


class Levels(PixelDistribution):
    """A logistic of scale 0.1, discretised to 2^b levels; the lowest and the highest take the tails."""

    bits, half_width, discrete = 8, 1.0, True

    def __init__(self, mean):
        super().__init__(mean)
        self._mean, self.scale_of_x = mean, 0.1

    @property
    def mean(self):
        return self._mean

    def log_prob(self, value):
        count = 2**self.bits - 1
        level = ((value + 1) / 2 * 255).round().div(2 ** (8 - self.bits), rounding_mode="floor")
        x, half = 2 * level / count - 1, self.half_width / count
        above = torch.where(level >= count, math.inf, (x + half - self._mean) / self.scale_of_x).sigmoid()
        below = torch.where(level <= 0, -math.inf, (x - half - self._mean) / self.scale_of_x).sigmoid()
        return (above - below).clamp(min=1e-12).log().flatten(1).sum(1)

    def draw(self, noise):
        x = self._mean + self.scale_of_x * noise.uniform(*self._mean.shape).clamp(1e-6, 1 - 1e-6).logit()
        return x.clamp(-1, 1)


class HalfBins(Levels):
    half_width = 0.5


class UndeclaredLevels(Levels):
    discrete = False


class DiscreteDensity(Gaussian):
    discrete = True


class FiveBits(Levels):
    bits = 5


class WideDraws(Gaussian):
    def draw(self, noise):
        return (self.mean + 0.6 * noise.normal(*self.mean.shape)).clamp(-1, 1)


class DrawsTheMean(Gaussian):
    def draw(self, noise):
        return self.mean + 1e-3 * noise.normal(*self.mean.shape)


class Steep(Gaussian):
    """Its means differ much between pixels."""

    def __init__(self, mean):
        super().__init__((20 * mean).tanh())


class SteepTransposed(Steep):
    def draw(self, noise):
        return super().draw(noise).mT


class OutOfRange(Gaussian):
    def draw(self, noise):
        return self.mean + self.std * noise.normal(*self.mean.shape)


class GlobalDraw(Gaussian):
    def draw(self, noise):
        return (self.mean + self.std * torch.randn_like(self.mean)).clamp(-1, 1)


class OneDraw(Gaussian):
    """The same noise for every image."""

    def draw(self, noise):
        return (self.mean + self.std * noise.normal(1, *self.mean.shape[1:])).clamp(-1, 1)


class HalfMean(Steep):
    @property
    def mean(self):
        return 0.5 * self._mean


BROKEN_PIXELS = [
    (NoConstant, "normalised"),
    (AveragesPixels, "normalised"),
    (NoSoftplus, "normalised"),
    (HalfBins, "normalised"),
    (UndeclaredLevels, "normalised"),
    (DiscreteDensity, "normalised"),
    (MeanIsProbability, "mean"),
    (HalfMean, "mean"),
    (FairCoins, "draw-follows"),
    (WideDraws, "draw-follows"),
    (DrawsTheMean, "draw-follows"),
    (SteepTransposed, "draw-follows"),
    (OutOfRange, "draw"),
    (GlobalDraw, "draw"),
    (OneDraw, "draw"),
]


@pytest.mark.parametrize(("kind", "name"), BROKEN_PIXELS, ids=lambda part: getattr(part, "__name__", part))
def test_a_wrong_distribution_is_caught_by_the_check_of_that_promise(kind, name):
    expect_failing(backbone_of(kind), name)


def plain(kind, scale):
    """A distribution of torch, which has log_prob and mean alone."""
    return lambda mean: Independent(kind(mean, scale, validate_args=False), 3, validate_args=False)


@pytest.mark.parametrize(
    "kind",
    [Gaussian, Steep, Bernoulli, Levels, FiveBits, plain(Normal, 0.05), plain(Normal, 1.0), plain(Laplace, 0.2)],
    ids=lambda kind: kind.__name__,
)
def test_distributions_of_other_kinds_pass(kind):
    names = {"normalised", "mean", "draw", "draw-follows", "likelihood"}
    for case in cases(backbone_of(kind)):
        if case.name in names:
            case()


def test_every_check_of_a_backbone_has_a_wrong_example():
    assert uncontrolled(Backbones(ReferenceBackbone), BROKEN_BACKBONES + BROKEN_PIXELS) <= {"latents"}
