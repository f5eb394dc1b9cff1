"""Measure a log density ratio on held-out draws: loss, AUROC and certified nats.

A prior that learns by contrast has a log ratio f, which is large on draws of q (posterior draws of images) and small on
draws of p (the prior that it improves). With N held-out draws of each:

    loss    E_q[softplus(−f)] + E_p[softplus(f)],                               2 log 2 = 1.386 at f = 0
    AUROC   P(f(q) > f(p)) + ½ P(f(q) = f(p)),                                  ½ at f = 0
    nats    E_q[g] − E_p[exp g] + 1 ≤ KL(q‖p),     g = min(f, log N),           0 at f = 0

The third is the bound of Nguyen, Wainwright and Jordan: log t ≤ t − 1 with t = exp(g) p/q gives E_q[g] ≤ KL(q‖p) +
E_p[exp g] − 1 for every function g. Both means are unbiased: the expected number is at most KL(q‖p). The clip depends
on N alone, so g does not depend on the draws. It limits the loss from one draw of p to one nat. (Donsker and Varadhan's
E_q[f] − log E_p[exp f] is tighter, but the logarithm of a mean over draws is too small on average, so its estimate
certifies nothing.) A negative number means that f is far too large on draws of p. If the same images chose f by early
stopping, the number is slightly too high.

References:
    Estimating divergence functionals and the likelihood ratio by convex risk minimization, Nguyen, Wainwright and
    Jordan 2010, arXiv 0809.0853.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Self

import attrs
import torch
from torch import Tensor
from torch.nn import functional as F

from hebm.evaluation.auroc import auroc
from hebm.latents import Latents
from hebm.validated import Validated


@attrs.frozen(eq=False)
class Contrasted(Validated):
    """Two sets of draws, and the log ratio that classifies them.

    Arguments:
        positive: draws of q.
        negative: an equal number of draws of p.
        log_ratio: returns f at points, `(B,)`, or `(B, C)` for C separate contrasts with summed losses, such as one for
            each layer given the layers above. Each call uses the current weights.
    """

    positive: Latents
    negative: Latents
    log_ratio: Callable[[Latents], Tensor]

    @classmethod
    def metrics(cls, batches: Sequence[Self]) -> dict[str, float]:
        """Return the loss in nats, the AUROC and the certified nats."""
        return attrs.asdict(held_out(batches))


@attrs.frozen
class HeldOut:
    """How well a log ratio classifies held-out draws.

    Arguments:
        loss: the loss in nats, summed over contrasts.
        auroc: the AUROC, averaged over contrasts.
        nats: a lower bound on KL(q‖p) in nats, summed over contrasts. For layers given the layers above, the chain rule
            makes the sum a bound on the KL of the whole.
    """

    loss: float
    auroc: float
    nats: float


def bce(positive: Tensor, negative: Tensor) -> Tensor:
    """Return the mean loss over the batch in nats, for each column.

    Arguments:
        positive: log r of draws of q, `(B, …)`.
        negative: log r of draws of p, `(B, …)`.
    """
    return (F.softplus(-positive) + F.softplus(negative)).mean(0)


def certified_nats(positive: Tensor, negative: Tensor) -> Tensor:
    """Return E_q[g] − E_p[exp g] + 1 with g = min(f, log N), for each column.

    Arguments:
        positive: f of draws of q, `(N, …)`.
        negative: f of N draws of p, `(N, …)`.
    """
    most = math.log(len(negative))
    return positive.clamp(max=most).mean(0) - negative.clamp(max=most).exp().mean(0) + 1


def certified_nats_error(positive: Tensor, negative: Tensor) -> Tensor:
    """Return the standard error of `certified_nats`, √(Var_q g / N + Var_p exp g / N), for each column.

    Arguments:
        positive: f of draws of q, `(N, …)`.
        negative: f of N draws of p, `(N, …)`.
    """
    most, n = math.log(len(negative)), len(negative)
    return ((positive.clamp(max=most).var(0) + negative.clamp(max=most).exp().var(0)) / n).sqrt()


def held_out(contrasts: Sequence[Contrasted]) -> HeldOut:
    """Return loss, AUROC and certified nats of a log ratio on the draws of all batches; NaN if f has a NaN."""
    positive = torch.cat([_columns(each.log_ratio(each.positive)) for each in contrasts])
    negative = torch.cat([_columns(each.log_ratio(each.negative)) for each in contrasts])
    if bool(positive.isnan().any() | negative.isnan().any()):
        return HeldOut(math.nan, math.nan, math.nan)
    areas = [auroc(p, n) for p, n in zip(positive.T, negative.T, strict=True)]
    loss, nats = bce(positive, negative).sum(), certified_nats(positive, negative).sum()
    return HeldOut(float(loss), sum(areas) / len(areas), float(nats))


def _columns(log_ratio: Tensor) -> Tensor:
    return log_ratio.double().reshape(len(log_ratio), -1)
