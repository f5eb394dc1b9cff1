"""Units of bounds on the likelihood, and what their pixels' log probabilities are of."""

from __future__ import annotations

from typing import Any

from torch.distributions import Distribution

from hebm.evaluation.likelihood import Infer
from hebm.evaluation.metric import Measurement
from hebm.interfaces import Batch
from hebm.likelihoods import UNKNOWN
from hebm.noise import Noise

NATS, BITS = "nats per image", "bits per dimension"


def missing(name: str, title: str, reason: str) -> Measurement:
    """Return a bound without a number, and why."""
    return Measurement(name, None, title, unit=NATS, note=reason)


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

    def describe(self) -> dict[str, str]:
        """Describe family, binarisation and scale in words."""
        found = getattr(self.likelihood, "scale", None)
        scale = found if isinstance(found, str) else UNKNOWN
        if not self.binary and getattr(self.likelihood, "binary", False):
            scale = "cross-entropy of grey pixels: not a likelihood"
        targets = "binarised" if self.binary else "as read"
        return {"family": type(self.likelihood).__name__, "targets": targets, "scale": scale}
