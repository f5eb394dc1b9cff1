"""Distributions p(x|z) of an image given latents, over pixels in [−1, 1], with batch shape `(B,)`.

They are `torch.distributions.Distribution` objects with `log_prob` and `mean`. They skip argument checks, which would
synchronise a GPU, and have `draw(noise)` in place of `sample()`, which would read the global generator.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn import functional as F

from hebm.noise import Noise

UNKNOWN = "as the backbone's likelihood defines it"
CONTINUOUS = "density of continuous x in [-1, 1]: not bits per dimension of 8-bit images"


class PixelDistribution(Distribution, ABC):
    """A distribution p(x|z) over images `(C, H, W)` in [−1, 1], with batch shape `(B,)`.

    Describe in `scale` what `log_prob` measures. Numbers are compared only if their scales agree.

    Arguments:
        parameters: a tensor `(B, C, H, W)` that gives batch and image shape.
    """

    arg_constraints = {}
    discrete: ClassVar[bool] = False
    """True if `log_prob` is the log of a probability over finitely many pixel values, as bits per dimension require."""
    binary: ClassVar[bool] = False
    """True if only images of −1 and 1 have a likelihood. The score of a grey image is then a cross-entropy."""

    def __init__(self, parameters: Tensor) -> None:
        super().__init__(parameters.shape[:1], parameters.shape[1:], validate_args=False)

    @property
    def scale(self) -> str:
        """Describe what `log_prob` measures, for results. Override it by a property or a class attribute."""
        return UNKNOWN

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """Return E[x|z], `(B, C, H, W)` in [−1, 1]."""

    @abstractmethod
    def draw(self, noise: Noise) -> Tensor:
        """Return a draw x ~ p(x|z), `(B, C, H, W)` in [−1, 1]."""


class GaussianPixels(PixelDistribution):
    """p(x|z) = N(x; μ(z), s² I).

    Arguments:
        mean: μ(z), `(B, C, H, W)` in [−1, 1].
        std: s, in units of x.
    """

    scale = CONTINUOUS

    def __init__(self, mean: Tensor, std: float) -> None:
        super().__init__(mean)
        self._mean, self.std = mean, std

    @property
    def mean(self) -> Tensor:
        """Return the mean μ(z), which is in [−1, 1]."""
        return self._mean

    def log_prob(self, value: Tensor) -> Tensor:
        """Return Σ_pixels log N(x; μ, s²), including the constant, `(B,)`."""
        error = (value - self._mean).square().flatten(1).sum(1)
        constant = self._mean[0].numel() * (math.log(self.std) + 0.5 * math.log(2 * math.pi))
        return -error / (2 * self.std**2) - constant

    def draw(self, noise: Noise) -> Tensor:
        """Return μ + s ξ, clamped to [−1, 1]."""
        return (self._mean + self.std * noise.normal(*self._mean.shape)).clamp(-1, 1)


class BernoulliPixels(PixelDistribution):
    """p(x|z) = Π Bernoulli((x+1)/2; sigmoid(l(z))).

    For a grey target the same formula gives a cross-entropy; it is a likelihood for binarised images only.

    Arguments:
        logits: l(z), `(B, C, H, W)`.
    """

    scale = "binary pixels"
    binary = True
    discrete = True

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits)
        self.logits = logits

    @property
    def mean(self) -> Tensor:
        """Return 2 sigmoid(l) − 1, the mean in [−1, 1]."""
        return 2 * self.logits.sigmoid() - 1

    def log_prob(self, value: Tensor) -> Tensor:
        """Return Σ_pixels b l − softplus(l) with b = (x+1)/2, `(B,)`."""
        terms = 0.5 * (value + 1) * self.logits - F.softplus(self.logits)
        return terms.flatten(1).sum(1)

    def draw(self, noise: Noise) -> Tensor:
        """Return a draw of ±1 for every pixel."""
        bits = noise.uniform(*self.logits.shape) < self.logits.sigmoid()
        return 2 * bits.to(self.logits.dtype) - torch.ones_like(self.logits)
