"""Likelihoods of DVP-VAE: clamped Bernoulli, mixture of discretised logistics, and Gaussian."""

from __future__ import annotations

import math
from functools import partial

from torch import Tensor

from hebm.errors import ConfigError
from hebm.interfaces import ImageSpec
from hebm.likelihoods import BernoulliPixels
from hebm_plugins.pixels.logistic_mixture import LogisticMixturePixels, MixtureScoring
from hebm_plugins.pixels.outputs import PixelOutput
from hebm_plugins.pixels.outputs import pixel_output as hierarchical_output
from hebm_plugins.precision import full_precision

LIKELIHOODS = ("bernoulli", "logistic-mixture", "gaussian")
LEAST = 1e-7
LIMIT = math.log((1 - LEAST) / LEAST)
"""The logit of 1 − 1e-7."""
SCORING = MixtureScoring(least=-8.0, greatest=1.0, lowest=-1 + 1 / 255, highest=1 - 1 / 255, thin=None)


def bernoulli(outputs: Tensor) -> BernoulliPixels:
    """Return Bernoulli pixels for logits `(B, C, H, W)`, with probabilities clamped to [1e-7, 1 − 1e-7]."""
    return BernoulliPixels(full_precision(outputs).clamp(-LIMIT, LIMIT))


def pixel_output(images: ImageSpec, likelihood: str | None, mixtures: int, std: float) -> PixelOutput:
    """Return the output for one of `LIKELIHOODS`. None chooses by the images, as in the hierarchical VAE.

    Raises `ConfigError` for Bernoulli pixels if images are not binarised, and for a mixture if they are grey.
    """
    chosen = likelihood or (
        "bernoulli" if images.binary else "logistic-mixture" if images.channels == 3 else "gaussian"
    )
    if chosen == "bernoulli" and not images.binary:
        raise ConfigError(
            'backbone.likelihood: "bernoulli" needs binary pixels, but these images are not binarised; set '
            'data.binarize = "target" (dynamic binarisation; the encoder still sees grey levels)'
        )
    general = hierarchical_output(images, chosen, std, mixtures, bits=8)
    if chosen == "bernoulli":
        return PixelOutput(images.channels, bernoulli)
    if chosen == "gaussian":
        return general
    return PixelOutput(general.channels, partial(LogisticMixturePixels, scoring=SCORING))
