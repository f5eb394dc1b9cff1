"""Bounds on the likelihood of test images, in nats per image and bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution

from hebm.config.recipe import option, recipe
from hebm.errors import ConfigError, NonFiniteError
from hebm.evaluate.evaluation import Evaluation
from hebm.evaluate.likelihood import ElboTerms, Infer, bound_of, elbo_terms, importance_weighted, weighted
from hebm.evaluate.metric import MetricRecipe
from hebm.interfaces import Batch, InferringBackbone
from hebm.likelihoods import UNKNOWN
from hebm.noise import Noise

WARNING = (
    "not an estimate of the likelihood: analytic KLs and a noisy log p(c) in the exponent, and for p(c) a sum that "
    "bounds nothing; it comes out too low. For comparison with DVP-VAE's published figures alone"
)


@runtime_checkable
class PublishedBound(Protocol):
    """A root whose published evaluation takes another log p(c) than the bound."""

    def published_bound(self, context: Tensor, noise: Noise) -> Tensor:
        """log p̂(c), `(B,)`."""


@runtime_checkable
class ChainBound(Protocol):
    """A root that learns log p(c) of one model and draws from another, a chain of finitely many steps."""

    def chain_bound(self, context: Tensor, noise: Noise) -> Tensor:
        """A sample of the drawn model's bound on log p(c), `(B,)`."""


@recipe
class Likelihood(MetricRecipe):
    """Lower bounds on log p(x) under the backbone's own prior, over the test split: see `hebm.evaluate.likelihood`.

    elbo            noise averaged over `draws`
    elbo_chain      the same with log p(c) of the chain that is drawn from, where that is not the model that is learned
    nll_iw          −log 1/K Σ_k w_k with K = `k` > 1 proper importance weights
    nll_published   DVP-VAE's released estimator (arXiv 2412.01373), if asked for: w_k = p(x|z_k) exp(−Σ KL_i) p̂(c_k)/r,
                    analytic KLs and a noisy T-step sum in the exponent. It is too low, and no bound

    A learned prior does not enter: its log Z is unknown. Where latents are inferred by MCMC there is no q and no bound.
    """

    k: int = option(1, low=1, doc="posterior draws per image that are weighted by importance; 1 for the ELBO alone")
    draws: int = option(1, low=1, doc="posterior draws per image that the ELBO is averaged over")
    published: bool = option(False, doc="DVP-VAE's own estimator with the same K beside it, for comparison alone")
    images: int | None = option(None, low=1, doc="test images at most, evenly spread; None takes all")

    def __attrs_post_init__(self) -> None:
        """Raise `ConfigError` for a published estimate of one draw: it would be an ELBO by another name."""
        if self.published and self.k == 1:
            raise ConfigError("likelihood: published = true takes k > 1 draws (the paper has 1000)")

    def compute(self, evaluation: Evaluation) -> Mapping[str, Any]:
        """`likelihood.*`: each number, its standard error, and what it is a number of.

        Raises `NonFiniteError` if the bound of any image is not finite.
        """
        if not isinstance(evaluation.model.backbone, InferringBackbone) or not len(evaluation.splits["test"]):
            return {"likelihood": {"elbo": None, "reason": "no inference model q(z|x), or no test images"}}
        measuring = _Measuring(self, evaluation)
        elbo = measuring.elbo()
        if elbo is None:
            return {"likelihood": {"elbo": None, "reason": "the posterior has no KL: latents are inferred by MCMC"}}
        found = {**elbo, "unit": "nats per image", "split": "test", "prior": "the backbone's own"}
        found |= measuring.scale.describe()
        if isinstance(evaluation.root, ChainBound) and evaluation.model.backbone.layout.context is not None:
            found["elbo_chain"] = measuring.elbo_chain(evaluation.root)
        if self.k > 1:
            found["nll_iw"] = measuring.importance_weighted()
        if self.published:
            found["nll_published"] = measuring.published()
        return {"likelihood": found}


class _Measuring:
    """One model's figures."""

    def __init__(self, settings: Likelihood, evaluation: Evaluation) -> None:
        self.settings, self.evaluation, self.scale = settings, evaluation, _Scale()
        self.layers = len(evaluation.model.backbone.layout)
        self.dimension = math.prod(evaluation.splits["test"].shape)

    @property
    def _infer(self) -> Infer:
        return self.evaluation.model.infer

    def _per_image(self, score: Any, width: int) -> Tensor:
        return self.evaluation.per_image("test", score, self.settings.images, (width,))

    def elbo(self) -> dict[str, Any] | None:
        """Its parts, log p(x|z), KLs, context, as columns."""
        unbounded = False

        def score(batch: Batch, noise: Noise) -> Tensor:
            nonlocal unbounded
            parts = self._elbo_terms(batch, noise)
            if parts is None:
                unbounded = True
                return batch.x.new_zeros(len(batch.x), self.layers + 2)
            return torch.cat([parts.log_p_x[:, None], parts.kl, parts.context[:, None]], dim=1)

        columns = self._per_image(score, self.layers + 2)
        if unbounded:
            return None
        parts = ElboTerms(columns[:, 0], columns[:, 1:-1], columns[:, -1])
        found = {"elbo": self._mean(parts.elbo), **self._figures(-parts.elbo), "estimator": "elbo"}
        found |= {"draws": self.settings.draws, "n": len(columns), "reconstruction": -float(parts.log_p_x.mean())}
        found["kl_per_layer"] = parts.kl.mean(0).tolist()
        if self.evaluation.model.backbone.layout.context is not None:
            found["kl_context"] = float(parts.context.mean())
        return found

    def _elbo_terms(self, batch: Batch, noise: Noise) -> ElboTerms | None:
        evaluation = self.evaluation
        infer = self.scale.noting(evaluation.model.backbone.likelihood, self._infer)
        return elbo_terms(
            evaluation.model.backbone, bound_of(evaluation.root), infer, batch, noise, self.settings.draws
        )

    def elbo_chain(self, root: ChainBound) -> dict[str, Any]:
        """elbo with the chain's bound for c; on the same draws."""

        def score(batch: Batch, noise: Noise) -> Tensor:
            found = elbo_terms(
                self.evaluation.model.backbone, root.chain_bound, self._infer, batch, noise, self.settings.draws
            )
            return batch.x.new_full((len(batch.x), 1), math.nan) if found is None else found.elbo.unsqueeze(1)

        elbo = self._per_image(score, 1)[:, 0]
        return {"elbo": self._mean(elbo), **self._figures(-elbo), "estimator": "elbo of the chain", "n": len(elbo)}

    def importance_weighted(self) -> dict[str, Any] | None:
        """nll_iw; None where there is no log q."""
        without = False

        def score(batch: Batch, noise: Noise) -> Tensor:
            nonlocal without
            backbone, root = self.evaluation.model.backbone, self.evaluation.root
            found = importance_weighted(backbone, root, self._infer, batch, noise.derive("iw"), self.settings.k)
            without = found is None
            return batch.x.new_zeros(len(batch.x), 2) if found is None else torch.stack(tuple(found), dim=1)

        columns = self._per_image(score, 2)
        if without:
            return None
        figures = {"nll": self._mean(-columns[:, 0]), **self._figures(-columns[:, 0])}
        share = float(columns[:, 1].mean())
        return {**figures, "estimator": "importance-weighted", "k": self.settings.k, "ess_share": share}

    def published(self) -> dict[str, Any]:
        """nll_published, with the same K."""

        def score(batch: Batch, noise: Noise) -> Tensor:
            log_w = [self._published_weight(batch, noise.derive("published", k)) for k in range(self.settings.k)]
            return weighted(torch.stack(log_w)).bound.unsqueeze(1)

        nll = -self._per_image(score, 1)[:, 0]
        figures = {"nll": self._mean(nll), **self._figures(nll)}
        return {**figures, "estimator": "published by DVP-VAE", "k": self.settings.k, "warning": WARNING}

    def _published_weight(self, batch: Batch, noise: Noise) -> Tensor:
        backbone, root = self.evaluation.model.backbone, self.evaluation.root
        posterior = self._infer(batch, noise)
        log_w = backbone.likelihood(posterior.latents).log_prob(batch.target)
        log_w = log_w if posterior.kl is None else log_w - posterior.kl.sum(1)
        context = posterior.latents.context
        if context is None or posterior.log_r is None:
            return log_w
        log_p = root.published_bound if isinstance(root, PublishedBound) else bound_of(root)
        return log_w + log_p(context, noise.derive("context-prior")) - posterior.log_r

    def _mean(self, values: Tensor) -> float:
        bad = int((~values.isfinite()).sum())
        if bad:
            raise NonFiniteError(f"likelihood: the bound of {bad} of {len(values)} test images is not finite")
        return values.mean().item()

    def _figures(self, nll: Tensor) -> dict[str, Any]:
        """Standard error and bits per dimension of per-image figures."""
        error = nll.std().item() / math.sqrt(len(nll)) if len(nll) > 1 else None
        return {"standard_error": error, "bits_per_dim": nll.mean().item() / (self.dimension * math.log(2))}


class _Scale:
    """What the log probabilities were of: learned from what was scored."""

    def __init__(self) -> None:
        self.likelihood: Distribution | None = None
        self.binary = True

    def noting(self, likelihood: Any, infer: Infer) -> Infer:
        """The same inference, remembering the distribution, and whether all pixels were −1 or 1."""

        def noted(batch: Batch, noise: Noise) -> Any:
            posterior = infer(batch, noise)
            self.binary = self.binary and bool((batch.target.abs() == 1).all())
            if self.likelihood is None:
                self.likelihood = likelihood(posterior.latents)
            return posterior

        return noted

    def describe(self) -> dict[str, str]:
        """The family, binarisation and scale, in words."""
        found = getattr(self.likelihood, "scale", None)
        scale = found if isinstance(found, str) else UNKNOWN
        if not self.binary and getattr(self.likelihood, "binary", False):
            scale = "cross-entropy of grey pixels: not a likelihood"
        targets = "binarised" if self.binary else "as read"
        return {"family": type(self.likelihood).__name__, "targets": targets, "scale": scale}
