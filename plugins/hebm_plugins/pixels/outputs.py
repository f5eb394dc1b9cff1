"""Choose p(x|z), and the number of network outputs per pixel that parametrise it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor

from hebm.errors import ConfigError
from hebm.interfaces import ImageSpec
from hebm.likelihoods import BernoulliPixels, GaussianPixels, PixelDistribution
from hebm_plugins.pixels.logistic_mixture import NVAE_SCORING, LogisticMixturePixels, MixtureScoring

LIKELIHOODS = ("bernoulli", "gaussian", "logistic-mixture")
COLOURS = 3


class PixelOutput(NamedTuple):
    """The parametrisation of p(x|z).

    Arguments:
        channels: P, the number of network outputs per pixel.
        distribution: maps outputs `(B, P, H, W)` to p(x|z).
    """

    channels: int
    distribution: Callable[[Tensor], PixelDistribution]


def pixel_output(
    images: ImageSpec,
    likelihood: str | None,
    std: float,
    mixtures: int,
    bits: int,
    scoring: MixtureScoring = NVAE_SCORING,
) -> PixelOutput:
    """Return the output for one of `LIKELIHOODS`.

    None chooses Bernoulli for binarised images, a mixture of discretised logistics for colour images, and a Gaussian
    for grey images.

    Arguments:
        images: the shape of the images, and whether they are binarised.
        likelihood: one of `LIKELIHOODS`, or None.
        std: σ of the Gaussian, in units of x.
        mixtures: components of the mixture of logistics.
        bits: bits per colour of the mixture of logistics.
        scoring: how the mixture of logistics scores levels.

    Raises `ConfigError` for a mixture of logistics over grey images.
    """
    colour = images.channels == COLOURS
    chosen = likelihood or ("bernoulli" if images.binary else "logistic-mixture" if colour else "gaussian")
    if chosen == "bernoulli":
        return PixelOutput(images.channels, BernoulliPixels)
    if chosen == "gaussian":
        return PixelOutput(images.channels, partial(_gaussian, std=std))
    if not colour:
        raise ConfigError(
            f'backbone.likelihood: "logistic-mixture" needs colour images, these have {images.channels} channel(s); '
            'use "bernoulli" with data.binarize, or "gaussian", or set data.channels = 3'
        )
    return PixelOutput(10 * mixtures, partial(LogisticMixturePixels, bits=bits, scoring=scoring))


def _gaussian(outputs: Tensor, std: float) -> GaussianPixels:
    """Return N(tanh h, std²) for raw outputs h."""
    return GaussianPixels(outputs.tanh(), std)
