"""Bounds on the likelihood of test images, in nats per image and bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import attrs
import torch
from torch import Tensor

from hebm.config.recipes import option, recipe
from hebm.data.images import Images
from hebm.errors import ConfigError
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.likelihood import (
    ElboTerms,
    Infer,
    LogP,
    LogTilt,
    Weighted,
    bound_of,
    elbo_terms,
    importance_weighted,
    weighted,
)
from hebm.evaluation.metric import SHARE, Measurement, MetricRecipe, Scalar
from hebm.evaluation.partition import Annealing
from hebm.evaluation.plan import EvaluationPlan
from hebm.interfaces import Backbone, Batch, InferringBackbone
from hebm.noise import Noise
from hebm_plugins.metrics.learned_bound import TITLE, LearnedBound
from hebm_plugins.metrics.likelihood_scale import BITS, NATS, Scale, all_binary, missing, without_bits

WARNING = (
    "not an estimate of the likelihood: analytic KLs and a noisy log p(c) in the exponent, and for p(c) a sum that "
    "bounds nothing; it comes out too low. For comparison with DVP-VAE's published numbers only"
)


@runtime_checkable
class PublishedBound(Protocol):
    """A root whose published evaluation uses a log p(c) that differs from the bound."""

    def published_bound(self, context: Tensor, noise: Noise) -> Tensor:
        """Return log p̂(c), `(B,)`."""


@runtime_checkable
class ChainBound(Protocol):
    """A root trained as one model and sampled as another, a chain of finitely many steps."""

    def chain_bound(self, context: Tensor, noise: Noise) -> Tensor:
        """Return a sample of the drawn model's bound on log p(c), `(B,)`."""


@recipe
class Likelihood(MetricRecipe):
    """Lower bounds on log p(x) over the test split; see `hebm.evaluation.likelihood`.

        elbo            E_q[log p(x|z)] − KL(q ‖ p), averaged over `draws` posterior draws
        elbo-learned    ELBO + E_q[f] − log Z under a learned prior, on the same draws; `elbo-gain` is the difference
        elbo-chain      the ELBO with log p(c) of the chain that is sampled, if it differs from the trained model
        nll-iw          −log 1/K Σ_k w_k with K = `k` > 1 proper importance weights
        nll-published   −log 1/K Σ_k w_k with w_k = p(x|z_k) exp(−Σ KL_i) p̂(c_k)/r, only with `published = true`

    All except `elbo-learned` are under the backbone's own prior. They are in nats per image and, if p(x|z) is a
    probability of discrete pixels, also in bits per dimension (`….bits`). The parts of the ELBO are details.

    `elbo-learned` is the bound of the density exp f(T(u)) N(u; 0, I) / Z, not of the distribution of short chains. log
    Ẑ is too low on average, so `elbo-learned` is too high on average (`hebm.evaluation.partition`), unless log Z is
    known (`hebm.interfaces.Normalised`). It needs a density, which a chain of conditionals and a prior with a context
    do not have. A model without q, which infers by MCMC, has none of these bounds.

    `nll-published` is DVP-VAE's released estimator (arXiv 2412.01373). It is too low, and not a bound.

    Example:
        >>> Likelihood(k=100, bits=True).k
        100
    """

    k: int = option(1, low=1, doc="importance samples K per image for nll-iw; 1 gives the ELBO alone")
    draws: int = option(1, low=1, doc="posterior draws per image over which the ELBO is averaged")
    published: bool = option(False, doc="add DVP-VAE's published estimator with the same K, only for comparison")
    images: int | None = option(None, low=1, doc="largest number of test images, evenly spread; left out: all")
    learned: bool = option(True, doc="add the bound of a learned prior; an unknown log Z costs many evaluations of f")
    annealing: Annealing = option(factory=Annealing, doc="settings for estimating log Z of a learned prior")
    bits: bool = option(False, doc="require bits per dimension: an error if p(x|z) is not of discrete pixels")

    def __attrs_post_init__(self) -> None:
        """Raise `ConfigError` for a published estimate of one draw: it would be an ELBO by another name."""
        if self.published and self.k == 1:
            raise ConfigError("likelihood: published = true needs k > 1 draws; set k (the paper has 1000)")

    def check(self, plan: EvaluationPlan) -> list[str]:
        """Say what will be missing. Raises `ConfigError` if bits per dimension are required, and there are none."""
        reason = without_bits(plan.likelihood, plan.spec.binary or all_binary(plan.images["test"]))
        if self.bits and reason:
            raise ConfigError(
                f"evaluate.metrics: likelihood.bits: no bits per dimension: {reason}. Leave bits out, or choose a "
                'likelihood of discrete pixels, such as likelihood = "logistic-mixture" of the backbones that have it'
            )
        if lacking := _lacking(plan.backbone, plan.images["test"]):
            return [f"likelihood will be undefined: {lacking}"]
        return [f"likelihood is in nats per image alone: {reason}"] if reason else []

    def compute(self, evaluation: Evaluation) -> list[Measurement]:
        """Measure the bounds with standard errors. A bound that is not finite for some image is undefined."""
        if lacking := _lacking(evaluation.model.backbone, evaluation.splits["test"]):
            return [missing("elbo", "ELBO", lacking)]
        measuring = _Measuring(self, evaluation)
        elbo = measuring.elbo()
        if elbo is None:
            return [missing("elbo", "ELBO", "the posterior has no KL: latents are inferred by MCMC")]
        found = [*elbo, *measuring.elbo_learned()]
        if isinstance(evaluation.root, ChainBound) and evaluation.model.backbone.layout.context is not None:
            found += measuring.elbo_chain(evaluation.root)
        if self.k > 1:
            found += measuring.importance_weighted()
        if self.published:
            found += measuring.published()
        return found


def _lacking(backbone: Backbone, images: Images) -> str:
    """Return what the bound lacks: an inference model or test images; "" if nothing."""
    if not isinstance(backbone, InferringBackbone):
        return "the backbone has no inference model q(z|x)"
    return "" if len(images) else "there are no test images"


class _Measuring:
    """Measures the bounds of one model."""

    def __init__(self, settings: Likelihood, evaluation: Evaluation) -> None:
        self.settings, self.evaluation, self.scale = settings, evaluation, Scale()
        self.learned = LearnedBound(evaluation.model, settings.annealing, evaluation.processes)
        self.terms: ElboTerms | None = None
        self.layers = len(evaluation.model.backbone.layout)
        self.dimension = math.prod(evaluation.splits["test"].shape)

    @property
    def _infer(self) -> Infer:
        return self.evaluation.model.infer

    def _per_image(self, score: Callable[[Batch, Noise], Tensor], width: int) -> Tensor:
        return self.evaluation.per_image("test", score, self.settings.images, (width,))

    # ------------------------------------------------------------ the bounds

    def elbo(self) -> list[Measurement] | None:
        """Measure the ELBO and its parts: log p(x|z), KLs, context. None where the posterior has no KL."""
        columns = self._elbo_columns()
        if columns is None:
            return None
        self.terms = parts = ElboTerms(columns[:, 0], columns[:, 1:-2], columns[:, -2], columns[:, -1])
        bounds = self._bound("elbo", "ELBO", parts.elbo, {"estimator": "elbo", "draws": self.settings.draws}, 1)
        part = attrs.evolve(bounds[0], error=None, better=None, detail=True, note="")
        reconstruction = -float(parts.log_p_x.mean())
        found = [attrs.evolve(part, name="elbo.reconstruction", title="ELBO: −log p(x|z)", value=reconstruction)]
        for i, kl in enumerate(parts.kl.mean(0).tolist(), 1):
            found.append(attrs.evolve(part, name="elbo.kl", title="ELBO: KL by layer", value=kl, part=f"layer {i}"))
        if self.evaluation.model.backbone.layout.context is not None:
            context = float(parts.context.mean())
            found.append(attrs.evolve(part, name="elbo.kl-context", title="ELBO: KL of the context", value=context))
        return [*bounds, *found]

    def _elbo_columns(self) -> Tensor | None:
        """Return log p(x|z), KL of each layer, context term and tilt of each image, `(N, L + 3)`."""
        unbounded, tilt = False, self.learned.tilt if self.settings.learned else None
        infer = self.scale.noting(self.evaluation.model.backbone.likelihood, self._infer)

        def score(batch: Batch, noise: Noise) -> Tensor:
            nonlocal unbounded
            parts = self._elbo_terms(bound_of(self.evaluation.root), infer, batch, noise, tilt)
            if parts is None:
                unbounded = True
                return batch.x.new_zeros(len(batch.x), self.layers + 3)
            return torch.cat([parts.log_p_x[:, None], parts.kl, parts.context[:, None], parts.tilt[:, None]], dim=1)

        columns = self._per_image(score, self.layers + 3)
        return None if unbounded else columns

    def _elbo_terms(
        self, bound: LogP, infer: Infer, batch: Batch, noise: Noise, tilt: LogTilt | None = None
    ) -> ElboTerms | None:
        return elbo_terms(self.evaluation.model.backbone, bound, infer, batch, noise, self.settings.draws, tilt)

    def elbo_learned(self) -> list[Measurement]:
        """Measure the ELBO under a learned prior, on the draws of `elbo`; nothing for a root."""
        if not self.settings.learned or self.evaluation.model.prior.root is None:
            return []
        if self.terms is None or self.learned.tilt is None:
            return [missing("elbo-learned", TITLE, self.learned.reason)]
        conditions = {"estimator": "elbo", "draws": self.settings.draws, **self.learned.conditions()}
        value = self.terms.elbo + self.terms.tilt - self.learned.log_z.value
        bounds = self._bound("elbo-learned", TITLE, value, conditions, 1)
        return self.learned.measurements(bounds, self.terms.tilt, self.dimension)

    def elbo_chain(self, root: ChainBound) -> list[Measurement]:
        """Measure the ELBO with the chain's bound for c, on the same draws."""

        def score(batch: Batch, noise: Noise) -> Tensor:
            found = self._elbo_terms(root.chain_bound, self._infer, batch, noise)
            return batch.x.new_full((len(batch.x), 1), math.nan) if found is None else found.elbo.unsqueeze(1)

        conditions: dict[str, Scalar] = {"estimator": "elbo of the chain", "draws": self.settings.draws}
        return self._bound("elbo-chain", "ELBO of the chain", self._per_image(score, 1)[:, 0], conditions, 1)

    def importance_weighted(self) -> list[Measurement]:
        """Measure `nll-iw`; the value is missing where there is no log q."""
        without = False

        def score(batch: Batch, noise: Noise) -> Tensor:
            nonlocal without
            backbone, root = self.evaluation.model.backbone, self.evaluation.root
            found = importance_weighted(backbone, root, self._infer, batch, noise.derive("iw"), self.settings.k)
            without = found is None
            return batch.x.new_zeros(len(batch.x), 2) if found is None else torch.stack(tuple(found), dim=1)

        columns = self._per_image(score, 2)
        title = "−log p(x), importance-weighted"
        conditions: dict[str, Scalar] = {"estimator": "importance-weighted", "k": self.settings.k}
        if without:
            return [missing("nll-iw", title, "the posterior has no log q(z|x)")]
        found = Weighted(columns[:, 0], columns[:, 1])
        bounds = self._bound("nll-iw", title, found.bound, conditions, -1)
        ess = attrs.evolve(
            bounds[0],
            name="nll-iw.ess",
            value=float(found.share.mean()),
            title="effective sample size / K",
            error=None,
            unit=SHARE,
            better="higher",
            detail=True,
        )
        return [*bounds, ess]

    def published(self) -> list[Measurement]:
        """Measure `nll-published`, with the same K."""

        def score(batch: Batch, noise: Noise) -> Tensor:
            log_w = [self._published_weight(batch, noise.derive("published", k)) for k in range(self.settings.k)]
            return weighted(torch.stack(log_w)).bound.unsqueeze(1)

        conditions: dict[str, Scalar] = {"estimator": "published by DVP-VAE", "k": self.settings.k}
        title, bound = "−log p(x), published estimator", self._per_image(score, 1)[:, 0]
        first, *bits = self._bound("nll-published", title, bound, conditions, -1)
        return [attrs.evolve(first, note="; ".join(filter(None, (first.note, WARNING)))), *bits]

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

    # ------------------------------------------------------------ a bound as measurements

    def _bound(
        self, name: str, title: str, log_p: Tensor, conditions: dict[str, Scalar], sign: int
    ) -> list[Measurement]:
        """Measure a bound on log p(x) in nats, times `sign`, and where there are, on −log p(x) in bits per dimension.

        Arguments:
            name: name of the measurement.
            title: title of the measurement.
            log_p: the bound of each image, `(N,)`.
            conditions: conditions of this bound.
            sign: 1 for log p(x), −1 for −log p(x).
        """
        error = log_p.std().item() / math.sqrt(len(log_p)) if len(log_p) > 1 else None
        value, per_bit = (sign * log_p).mean().item(), self.dimension * math.log(2)
        bad = int((~log_p.isfinite()).sum())
        conditions = {"n": len(log_p), "split": "test", "prior": "the backbone's own", **conditions}
        nats = Measurement(
            name,
            value,
            title,
            error,
            NATS,
            better="higher" if sign > 0 else "lower",
            conditions={**conditions, **self.scale.describe()},
            note=f"the bound of {bad} of {len(log_p)} test images is not finite" if bad else "",
        )
        if not self.scale.in_bits:
            return [nats]
        bits = attrs.evolve(
            nats,
            name=f"{name}.bits",
            value=-sign * value / per_bit,
            title=f"−{title}" if sign > 0 else title,
            error=None if error is None else error / per_bit,
            unit=BITS,
            better="lower",
        )
        return [nats, bits]
