"""Units of bounds on the likelihood, and what their pixels' log probabilities are of."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributions import Distribution

from hebm.data.images import Images
from hebm.evaluation.likelihood import Infer
from hebm.evaluation.metric import Measurement
from hebm.interfaces import Batch
from hebm.likelihoods import UNKNOWN
from hebm.noise import Noise

_FIRST = 64
NATS, BITS = "nats per image", "bits per dimension"


def missing(name: str, title: str, reason: str) -> Measurement:
    """Return a bound without a number, and why."""
    return Measurement(name, None, title, unit=NATS, note=reason)


def without_bits(likelihood: Any, binary: bool) -> str:
    """Return why a likelihood has no bits per dimension; "" if it has.

    Arguments:
        likelihood: the distribution p(x|z).
        binary: whether all pixels that it scores are −1 or 1.
    """
    family = type(likelihood).__name__
    if getattr(likelihood, "binary", False) and not binary:
        return f"{family} scores grey pixels by a cross-entropy, which is not a likelihood; set data.binarize"
    if not getattr(likelihood, "discrete", False):
        return f"{family} is not a probability of discrete pixels ({scale_of(likelihood)})"
    return ""


def all_binary(images: Images) -> bool:
    """Return whether the pixels of the first images are all −1 or 1."""
    return bool((images.read(torch.arange(min(_FIRST, len(images)))).abs() == 1).all())


def scale_of(likelihood: Any) -> str:
    """Return what the log probabilities of a likelihood are of."""
    found = getattr(likelihood, "scale", None)
    return found if isinstance(found, str) else UNKNOWN


class Scale:
    """Notes which distribution and which pixels the log probabilities were of."""

    def __init__(self) -> None:
        self.likelihood: Distribution | None = None
        self.binary = True

    def noting(self, likelihood: Any, infer: Infer) -> Infer:
        """Wrap an inference: note the distribution, and whether all pixels were −1 or 1."""

        def noted(batch: Batch, noise: Noise) -> Any:
            posterior = infer(batch, noise)
            self.binary = self.binary and bool((batch.target.abs() == 1).all())
            if self.likelihood is None:
                self.likelihood = likelihood(posterior.latents)
            return posterior

        return noted

    @property
    def in_bits(self) -> bool:
        """Whether a bound may be stated in bits per dimension."""
        return not without_bits(self.likelihood, self.binary)

    def describe(self) -> dict[str, str]:
        """Describe family, binarisation and scale in words."""
        scale = scale_of(self.likelihood)
        if not self.binary and getattr(self.likelihood, "binary", False):
            scale = "cross-entropy of grey pixels: not a likelihood"
        targets = "binarised" if self.binary else "as read"
        return {"family": type(self.likelihood).__name__, "targets": targets, "scale": scale}
