"""Weighted particles, P per sample: resampling and choice.

Weights w_j = exp(log w_j) are defined up to a factor per sample. Samples do not share particles, so they stay
independent. A sample with a NaN weight, or with all weights 0, is *spoiled*: none of its particles can be chosen, and
draws from it are NaN.

References:
    Sampling importance resampling: Rubin 1987.
    Systematic resampling: Kitagawa 1996.
    Sequential Monte Carlo samplers: Del Moral, Doucet, Jasra 2006.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from hebm.noise import Noise

_BLOCK = 128
"""The number of proposals computed at a time. It is a constant, since the random numbers of a sample depend on it."""


# ---------------------------------------------------------------- weights


def effective_share(log_weights: Tensor) -> Tensor:
    """Return ESS / P = (Σ_j w_j)² / (P Σ_j w_j²), from 1/P to 1, `(n,)`.

    Arguments:
        log_weights: `(n, P)`.
    """
    double = 2 * log_weights.logsumexp(1) - (2 * log_weights).logsumexp(1)
    return double.exp() / log_weights.shape[1]


def resample(log_weights: Tensor, uniform: Tensor) -> Tensor:
    """Return indices `(n, P)` by systematic resampling: particle j occurs about P w_j / Σ w times.

    A spoiled sample keeps its own particles.

    Arguments:
        log_weights: `(n, P)`.
        uniform: on [0, 1), `(n,)`.
    """
    particles = log_weights.shape[1]
    own = torch.arange(particles, device=log_weights.device)
    heights = log_weights.softmax(1).cumsum(1)
    points = (own + uniform.unsqueeze(1)) / particles * heights[:, -1:]
    chosen = torch.searchsorted(heights.contiguous(), points.contiguous(), right=True).clamp(max=particles - 1)
    return torch.where(heights[:, -1:].isnan(), own, chosen)


def choose(log_weights: Tensor, uniform: Tensor) -> Tensor:
    """Return the index `(n,)` of one particle of each sample: j with probability w_j / Σ w, or 0 if spoiled.

    Arguments:
        log_weights: `(n, P)`.
        uniform: on [0, 1), `(n,)`.
    """
    heights = log_weights.softmax(1).cumsum(1)
    points = uniform.unsqueeze(1) * heights[:, -1:]
    chosen = torch.searchsorted(heights.contiguous(), points.contiguous(), right=True).squeeze(1)
    return torch.where(heights[:, -1].isnan(), 0, chosen.clamp(max=log_weights.shape[1] - 1))


# ---------------------------------------------------------------- sequential Monte Carlo


class Particles(NamedTuple):
    """P particles of each of n samples.

    Arguments:
        u: `(n, P, D)`.
        log_weights: `(n, P)`.
        share: the lowest ESS / P before a resampling so far, `(n,)`.
    """

    u: Tensor
    log_weights: Tensor
    share: Tensor

    @classmethod
    def equal(cls, u: Tensor) -> Particles:
        """Return particles u `(n, P, D)` of equal weight."""
        return cls(u, torch.zeros_like(u[..., 0]), torch.ones_like(u[:, 0, 0]))

    def reweighted(self, log_ratio: Tensor, threshold: float, noise: Noise) -> Particles:
        """Multiply each weight by its ratio, and resample samples whose ESS / P is below the threshold.

        Arguments:
            log_ratio: the log ratio of each particle, `(n, P)`.
            threshold: 1 always resamples.
            noise: a row per sample.
        """
        log_weights = self.log_weights + log_ratio
        worth = log_weights.logsumexp(1, keepdim=True).isfinite()
        log_weights = torch.where(worth, log_weights, torch.nan)
        share = effective_share(log_weights)
        poor = ~(share >= threshold) if threshold < 1 else torch.ones_like(share, dtype=torch.bool)
        index = resample(log_weights, noise.uniform(len(self.u)))
        own = torch.arange(self.u.shape[1], device=self.u.device)
        index = torch.where(poor.unsqueeze(1), index, own)
        equal = torch.where(poor.unsqueeze(1) & ~log_weights.isnan(), 0.0, log_weights)
        u = self.u.gather(1, index.unsqueeze(2).expand_as(self.u))
        return Particles(u, equal, torch.minimum(self.share, share))

    def moved(self, u: Tensor) -> Particles:
        """Return the particles moved to another u `(n · P, D)`, with the same weights."""
        return self._replace(u=u.view_as(self.u))

    def chosen(self, noise: Noise) -> Tensor:
        """Return one particle of each sample by its weight, `(n, D)`; NaN for a spoiled sample."""
        index = choose(self.log_weights, noise.uniform(len(self.u)))
        u = self.u[torch.arange(len(index), device=index.device), index]
        return torch.where(self.log_weights.isnan().any(1, keepdim=True), torch.nan, u)


# ---------------------------------------------------------------- sampling importance resampling


class Selected(NamedTuple):
    """The chosen proposal of each sample.

    Arguments:
        u: `(n, d)`; NaN if a weight was NaN or infinite, or if all weights were 0.
        share: ESS / P, `(n,)`.
    """

    u: Tensor
    share: Tensor


def select(
    log_weight: Callable[[Tensor], Tensor],
    n: int,
    dim: int,
    proposals: int,
    noise: Noise,
    offer: Callable[[int, Noise], Tensor] | None = None,
) -> Selected:
    """Choose one of P proposals u_j ~ N(0, I) for each of n samples, with probability w_j / Σ w.

    It chooses the largest log w_j + g_j with standard Gumbel numbers g_j. So it need not store weights, and processes
    proposals in blocks.

    Arguments:
        log_weight: proposals `(n, C, d)` → log w `(n, C)`.
        n: number of samples.
        dim: d.
        proposals: P.
        noise: a row per sample.
        offer: returns C proposals of each sample `(n, C, d)`, given C and their noise, in place of N(0, I).
    """
    u = noise.normal(0, 0).new_zeros(n, dim)
    best, sums, squares = (u.new_full((n,), -torch.inf) for _ in range(3))
    for block, count in _blocks(proposals):
        source = noise.derive(block)
        offered = source.normal(n, count, dim) if offer is None else offer(count, source)
        log_weights = log_weight(offered)
        gumbel = -(-source.uniform(n, count).log()).log()
        score, index = (log_weights + gumbel).max(1)
        winner = offered[torch.arange(n, device=u.device), index]
        u = torch.where((score > best).unsqueeze(1), winner, u)
        best = torch.maximum(best, score)
        sums = torch.logaddexp(sums, log_weights.logsumexp(1))
        squares = torch.logaddexp(squares, (2 * log_weights).logsumexp(1))
    u = torch.where(sums.isfinite().unsqueeze(1), u, torch.nan)
    return Selected(u, (2 * sums - squares).exp() / proposals)


def _blocks(proposals: int) -> Iterator[tuple[int, int]]:
    """Yield the number and size of each block."""
    for block, first in enumerate(range(0, proposals, _BLOCK)):
        yield block, min(_BLOCK, proposals - first)
