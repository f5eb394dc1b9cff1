"""Estimate log p(x) under a backbone's own prior or a learned prior, from draws of the inference model.

    ELBO  = E_q[log p(x|z)] − Σ_i KL(q_i ‖ p_i) + E_r[B(c) − log r(c|x)]
    IW_K  = log 1/K Σ_k w_k,   w = p(x|z) p(z|c) / q(z|c, x) · W(c) / r(c|x)      (arXiv 1509.00519)

Under a learned prior p(u) = exp f(T(u)) N(u; 0, I) / Z, without a context or with the same Z in every context,

    log p(x) ≥ ELBO + E_q[f] − log Z,

and the estimate of log Z (`hebm.evaluation.partition`) is too low on average, so the bound is too high on average. If
log Z is known (`hebm.interfaces.Normalised`), it is a bound.

The terms with c appear only if the backbone has a context. Both come from the root: E[B(c)] ≤ log p(c), E[W(c)] = p(c).
A diffusion trained in continuous time has two models p(c). B bounds the continuous one, which is trained, and W belongs
to the chain of T steps, which is sampled. The ELBO and IW_K then refer to two models, unless B is `chain_bound`.

Every w is an unbiased estimate of p(x), so E[IW_K] ≤ log p(x), and the bound grows with K. With analytic KLs or noisy
bounds in the exponent this would not hold, and IW_K could exceed log p(x).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import attrs
import torch
from torch import Tensor

from hebm.errors import ConfigError
from hebm.evaluation.partition import LogZ, learned_tilt
from hebm.interfaces import Backbone, Batch, DrawsContext, PriorLearner
from hebm.latents import Latents, Posterior
from hebm.noise import Noise
from hebm.trained import TrainedModel
from hebm.walking import root_of

Infer = Callable[[Batch, Noise], Posterior]
"""Maps a batch and noise to a draw from q(z, c|x)."""
LogP = Callable[[Tensor, Noise], Tensor]
"""Maps contexts and noise to an estimate of log p(c), `(B,)`."""
LogTilt = Callable[[Latents], Tensor]
"""Maps B latents to the log tilt f of a learned prior, `(B,)`."""


class ElboTerms(NamedTuple):
    """The parts of the ELBO in nats per image, averaged over draws.

    Arguments:
        log_p_x: E_q[log p(x|z)], `(B,)`.
        kl: KL(q_i ‖ p_i), `(B, L)`.
        context: E_r[log r(c|x) − B(c)], `(B,)`; 0 without a context.
        tilt: E_q[f], `(B,)`; 0 for the backbone's own prior.
    """

    log_p_x: Tensor
    kl: Tensor
    context: Tensor
    tilt: Tensor

    @property
    def elbo(self) -> Tensor:
        """Return the bound under the backbone's own prior, `(B,)`."""
        return self.log_p_x - self.kl.sum(1) - self.context


@attrs.frozen(eq=False, repr=False)
class Elbo:
    """The evidence lower bound of each image, in nats per image.

    Arguments:
        value: the bound, `(N,)`.
        log_p_x: E_q[log p(x|z)], `(N,)`.
        kl: KL(q_i ‖ p_i) of each layer, `(N, L)`, top first.
        context: E_r[log r(c|x) − B(c)], `(N,)`; 0 without a context.
        tilt: E_q[f], `(N,)`; 0 for a bound under the backbone's own prior.
        prior: description of the prior.
        log_z: the log Z that the bound under a learned prior subtracts. An estimate is too low on average, so the bound
            is too high on average, by about `−log_z.bias`.
    """

    value: Tensor
    log_p_x: Tensor
    kl: Tensor
    context: Tensor
    tilt: Tensor
    prior: str
    log_z: LogZ | None = None

    @classmethod
    def joined(cls, parts: Sequence[Elbo]) -> Elbo:
        """Return the bounds of several batches as one."""
        names = [field.name for field in attrs.fields(cls) if field.name not in ("prior", "log_z")]
        tensors = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        return cls(prior=parts[0].prior, log_z=parts[0].log_z, **tensors)

    def __len__(self) -> int:
        """Return N, the number of images."""
        return len(self.value)

    def __repr__(self) -> str:
        n = len(self)
        error = f" ± {float(self.value.double().std()) / math.sqrt(n):.2g}" if n > 1 else ""
        return f"ELBO {float(self.value.double().mean()):.2f}{error} nats per image, mean of {n}, under {self.prior}"


def elbo_of(model: TrainedModel, batch: Batch, noise: Noise, draws: int, log_z: LogZ | None = None) -> Elbo:
    """Return the ELBO of a batch: under the learned prior if `log_z` is given, or else under its root.

    Raises `ConfigError` if latents are inferred by MCMC, which gives no bound.
    """
    root, tilt = root_of(model.prior), None if log_z is None else learned_tilt(model)
    parts = elbo_terms(model.generator, bound_of(root), model.infer, batch, noise, draws, tilt)
    if parts is None:
        raise ConfigError("elbo: this model infers latents by MCMC, which gives no bound; use one with q(z|x)")
    value = parts.elbo if log_z is None else parts.elbo + parts.tilt - log_z.value
    return Elbo(value, *parts, prior=_named(root, model.prior, log_z), log_z=log_z)


def _named(root: PriorLearner, prior: PriorLearner, log_z: LogZ | None) -> str:
    if log_z is not None and log_z.known:
        return f"the learned prior, {log_z}"
    if log_z is not None:
        return f"the learned prior, {log_z}, which is too low on average: the bound is too high on average"
    context = " given its context" if isinstance(root, DrawsContext) and root.context is not None else ""
    name = f"the backbone's own prior, u ~ N(0, I){context}"
    return name if root is prior else f"{name}; the learned tilt is not in it"


class Weighted(NamedTuple):
    """An importance-weighted bound.

    Arguments:
        bound: IW_K in nats per image, `(B,)`.
        share: effective sample size (Σ w)² / Σ w² over K, `(B,)`; near 1/K, one weight dominates.
    """

    bound: Tensor
    share: Tensor


def elbo_terms(
    backbone: Backbone,
    bound: LogP,
    infer: Infer,
    batch: Batch,
    noise: Noise,
    draws: int = 1,
    tilt: LogTilt | None = None,
) -> ElboTerms | None:
    """Return the ELBO's parts, averaged over draws; None if the posterior has no KL.

    Arguments:
        backbone: the backbone with p(x|z).
        bound: B(c), the root's `context_bound`; it gets fresh noise for each draw.
        infer: draws from q(z, c|x).
        batch: the images.
        noise: noise with one row per image.
        draws: number of draws from q for each image.
        tilt: f of a learned prior; None for the backbone's own prior.
    """
    found = [_elbo_draw(backbone, bound, infer, batch, noise.derive(k), tilt) for k in range(draws)]
    parts = [part for part in found if part is not None]
    if not parts:
        return None
    return ElboTerms(*(torch.stack(same).mean(0) for same in zip(*parts, strict=True)))


def _elbo_draw(
    backbone: Backbone, bound: LogP, infer: Infer, batch: Batch, noise: Noise, tilt: LogTilt | None
) -> ElboTerms | None:
    posterior = infer(batch, noise)
    if posterior.kl is None:
        return None
    log_p_x = backbone.likelihood(posterior.latents).log_prob(batch.target)
    f = torch.zeros_like(log_p_x) if tilt is None else tilt(posterior.latents)
    return ElboTerms(log_p_x, posterior.kl, _context_term(posterior, bound, noise, log_p_x), f)


def importance_weighted(
    backbone: Backbone, root: PriorLearner, infer: Infer, batch: Batch, noise: Noise, draws: int
) -> Weighted | None:
    """Return IW_K with K = `draws`; None if q(z|x) has no density. See `elbo_terms` for the other arguments."""
    found = [_log_weight(backbone, root, infer, batch, noise.derive(k)) for k in range(draws)]
    parts = [part for part in found if part is not None]
    return weighted(torch.stack(parts)) if parts else None


def _log_weight(backbone: Backbone, root: PriorLearner, infer: Infer, batch: Batch, noise: Noise) -> Tensor | None:
    posterior = infer(batch, noise)
    if posterior.log_q is None:
        return None
    log_p_x = backbone.likelihood(posterior.latents).log_prob(batch.target)
    log_ratio = posterior.latents.root_log_prob - posterior.log_q.sum(1)
    return log_p_x + log_ratio - _context_term(posterior, weight_of(root), noise, log_p_x)


def bound_of(root: PriorLearner) -> LogP:
    """Return the root's bound on log p(c), `context_bound`."""
    return root.context_bound if isinstance(root, DrawsContext) else _no_context


def weight_of(root: PriorLearner) -> LogP:
    """Return the root's log importance weight of c, `context_weight`."""
    return root.context_weight if isinstance(root, DrawsContext) else _no_context


def _no_context(context: Tensor, noise: Noise) -> Tensor:
    raise ConfigError("likelihood: the backbone has a context, but the root of this prior draws none")


def _context_term(posterior: Posterior, log_p: LogP, noise: Noise, like: Tensor) -> Tensor:
    """Return log r(c|x) − log p(c), `(B,)`; 0 without a context."""
    context = posterior.latents.context
    if context is None or posterior.log_r is None:
        return torch.zeros_like(like)
    return posterior.log_r - log_p(context, noise.derive("context-prior"))


def weighted(log_w: Tensor) -> Weighted:
    """Return log 1/K Σ_k w_k and the effective share of the weights, from log w `(K, B)`."""
    k = len(log_w)
    share = (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp() / k
    return Weighted(log_w.logsumexp(0) - math.log(k), share)
