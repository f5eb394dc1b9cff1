"""p(x|z) over pixels in [−1, 1], from what a VAE's decoder returns in its own range."""

from __future__ import annotations

import math
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent

from hebm.errors import ConfigError
from hebm.likelihoods import CONTINUOUS, BernoulliPixels, GaussianPixels, PixelDistribution
from hebm.noise import Noise

GAUSSIAN, BERNOULLI, DECODER = "gaussian", "bernoulli", "decoder"


@attrs.frozen
class Range:
    """The range [low, high] of the images that a VAE reads and writes."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """The value of x = 0."""
        return (self.high + self.low) / 2

    @property
    def half(self) -> float:
        """The width of the range in units of x."""
        return (self.high - self.low) / 2

    def of(self, x: Tensor) -> Tensor:
        """Scale images from [−1, 1] to the range."""
        return self.middle + self.half * x

    def standard(self, values: Tensor) -> Tensor:
        """Scale images from the range to [−1, 1], without clamping."""
        return (values - self.middle) / self.half


class DistributionPixels(PixelDistribution):
    """p(x|z) = hⁿ p(y|z) with y = m + h x: a continuous distribution of torch over n pixels of a range.

    Arguments:
        given: the distribution of y, with batch and event shape `(B, C, H, W)` together, independent over pixels.
        span: the range of y, with middle m and half width h.
    """

    scale = CONTINUOUS

    def __init__(self, given: Distribution, span: Range) -> None:
        super().__init__(given.mean)
        self.given, self.span = given, span

    @property
    def mean(self) -> Tensor:
        """Return E[x|z], clamped to [−1, 1]."""
        return self.span.standard(self.given.mean).clamp(-1, 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return Σ_pixels log p(x|z), `(B,)`."""
        each: Tensor = self.given.log_prob(self.span.of(value)).flatten(1)
        return each.sum(1) + value[0].numel() * math.log(self.span.half)

    def draw(self, noise: Noise) -> Tensor:
        """Return the quantiles at uniform numbers, clamped to [−1, 1]."""
        return self.span.standard(self.given.icdf(noise.uniform(*self.given.mean.shape))).clamp(-1, 1)


@attrs.frozen
class Pixels:
    """Makes p(x|z) from the decoder's result.

    Arguments:
        likelihood: "gaussian", "bernoulli" or "decoder".
        std: σ of the Gaussian likelihood, in units of x.
        span: the range of the decoder's images.
        image: the shape of an image, (C, H, W).
    """

    likelihood: str
    std: float
    span: Range
    image: tuple[int, int, int]

    def distribution(self, decoded: Any, rows: int) -> PixelDistribution:
        """Return p(x|z) of `rows` images. Raises `ConfigError` for a result of another kind or shape."""
        if self.likelihood == DECODER:
            return self._stated(decoded, rows)
        tensor = self._tensor(decoded, rows)
        if self.likelihood == BERNOULLI:
            return BernoulliPixels(tensor)
        return GaussianPixels(self.span.standard(tensor).clamp(-1, 1), self.std)

    def _tensor(self, decoded: Any, rows: int) -> Tensor:
        if isinstance(decoded, Distribution):
            raise ConfigError(
                f"AutoEncoder: decode returns the distribution {type(decoded).__name__}; set likelihood = {DECODER!r} "
                "to use it as p(x|z), or return its mean"
            )
        if not isinstance(decoded, Tensor):
            raise ConfigError(
                f"AutoEncoder: decode returns a {type(decoded).__name__}, but a tensor (B, C, H, W) is expected; "
                "return the images alone"
            )
        self._require_shape(tuple(decoded.shape), rows)
        return decoded

    def _stated(self, decoded: Any, rows: int) -> PixelDistribution:
        """Return the distribution that the decoder returned."""
        if not isinstance(decoded, Distribution):
            raise ConfigError(
                f"AutoEncoder: with likelihood = {DECODER!r} decode must return a distribution over images, but it "
                f"returns a {type(decoded).__name__}; for a mean use likelihood = {GAUSSIAN!r}"
            )
        self._require_shape((*decoded.batch_shape, *decoded.event_shape), rows)
        if isinstance(decoded, PixelDistribution):
            return decoded
        while isinstance(decoded, Independent):
            decoded = decoded.base_dist
        if isinstance(decoded, Bernoulli):
            return BernoulliPixels(decoded.logits)
        if decoded.event_shape or type(decoded).icdf is Distribution.icdf or decoded.support.is_discrete:
            raise ConfigError(
                f"AutoEncoder: decode returns the distribution {type(decoded).__name__}; Bernoulli and continuous "
                "distributions of single pixels with icdf, such as Normal and Laplace, are supported; for others "
                "return a hebm.likelihoods.PixelDistribution"
            )
        return DistributionPixels(decoded, self.span)

    def _require_shape(self, shape: tuple[int, ...], rows: int) -> None:
        if shape != (rows, *self.image):
            raise ConfigError(
                f"AutoEncoder: decode returns images of shape {shape} for {rows} latents, but the data's images are "
                f"{(rows, *self.image)}; change decode, or resize the data's images"
            )


def outside(decoded: Tensor, span: Range) -> float:
    """Return how far values reach beyond the range, as a share of its width; negative inside it."""
    beyond = torch.maximum(decoded.max() - span.high, span.low - decoded.min())
    return float(beyond) / (2 * span.half)
