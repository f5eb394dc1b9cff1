"""Bounds on the likelihood of test images, in nats per image and bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from hebm.config.recipe import option, recipe
from hebm.errors import NonFiniteError
from hebm.evaluate.evaluation import Evaluation
from hebm.interfaces import Batch, MetricRecipe
from hebm.likelihoods import UNKNOWN
from hebm.noise import Noise


@recipe
class Likelihood(MetricRecipe):
    """A lower bound on log p(x) under the backbone's own prior, over the test split.

    K = 1:  ELBO = E_q[log p(x|z)] − Σ_i KL(q_i ‖ p_i)
    K > 1:  log 1/K Σ_k p(x|z_k) p(z_k) / q(z_k|x)   (importance weighted, arXiv 1509.00519)

    A learned prior does not enter: its log Z is unknown. Where latents are inferred by MCMC there is no q and no bound.
    """

    k: int = option(1, low=1, doc="posterior draws per image; more than one weights them by importance")
    images: int | None = option(None, low=1, doc="test images at most, evenly spread; None takes all")

    def compute(self, evaluation: Evaluation) -> Mapping[str, Any]:
        """`likelihood.*`: the number, its standard error, and what it is a number of.

        Raises `NonFiniteError` if the bound of any image is not finite.
        """
        if not evaluation.backbone.can_infer or not len(evaluation.images["test"]):
            return {"likelihood": {"elbo": None, "reason": "no inference model q(z|x), or no test images"}}
        seen = _Scale()
        bounds = evaluation.per_image(
            "test", lambda batch, noise: self._bound(evaluation, batch, noise, seen), self.images
        )
        if seen.unbounded:
            return {"likelihood": {"elbo": None, "reason": "the posterior has no KL (K = 1) or no log q (K > 1)"}}
        if not bounds.isfinite().all():
            count = int((~bounds.isfinite()).sum())
            raise NonFiniteError(f"likelihood: the bound of {count} of {len(bounds)} test images is not finite")
        dimension = math.prod(evaluation.images["test"].shape)
        error = bounds.std().item() / math.sqrt(len(bounds)) if len(bounds) > 1 else None
        return {
            "likelihood": {
                "elbo": bounds.mean().item(),
                "standard_error": error,
                "unit": "nats per image",
                "bits_per_dim": -bounds.mean().item() / (dimension * math.log(2)),
                "estimator": "elbo" if self.k == 1 else "importance-weighted",
                "k": self.k,
                "n": len(bounds),
                "split": "test",
                "prior": "the backbone's own",
                **seen.describe(),
            }
        }

    def _bound(self, evaluation: Evaluation, batch: Batch, noise: Noise, seen: _Scale) -> Tensor:
        """The bound per image `(B,)`; 0, and noted, where the posterior lacks what it takes."""
        terms = [self._term(evaluation, batch, noise.derive(k), seen) for k in range(self.k)]
        return torch.stack(terms).logsumexp(0) - math.log(self.k)

    def _term(self, evaluation: Evaluation, batch: Batch, noise: Noise, seen: _Scale) -> Tensor:
        backbone, prior = evaluation.backbone, evaluation.prior
        posterior = evaluation.scheme.posterior(backbone, prior, batch, noise)
        likelihood = backbone.likelihood(posterior.latents)
        seen.note(likelihood, batch.target)
        log_p = likelihood.log_prob(batch.target)
        if self.k == 1 and posterior.kl is not None:
            return log_p - posterior.kl.sum(1)
        if self.k > 1 and posterior.log_q is not None:
            return log_p + posterior.latents.base_log_prob - posterior.log_q.sum(1)
        seen.unbounded = True
        return torch.zeros_like(log_p)


class _Scale:
    """What the log probabilities were of: learned from what was scored."""

    def __init__(self) -> None:
        self.likelihood: Distribution | None = None
        self.binary = True
        self.unbounded = False

    def note(self, likelihood: Distribution, target: Tensor) -> None:
        """Remember the distribution, and whether all pixels were −1 or 1."""
        self.likelihood = likelihood
        self.binary = self.binary and bool((target.abs() == 1).all())

    def describe(self) -> dict[str, str]:
        """The family, binarisation and scale, in words."""
        found = getattr(self.likelihood, "scale", None)
        scale = found if isinstance(found, str) else UNKNOWN
        if not self.binary and getattr(self.likelihood, "binary", False):
            scale = "cross-entropy of grey pixels: not a likelihood"
        targets = "binarised" if self.binary else "as read"
        return {"family": type(self.likelihood).__name__, "targets": targets, "scale": scale}
