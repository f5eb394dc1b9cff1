"""Sampling importance resampling of one layer, a block of proposals at a time.

    u_j ~ N(0, I),   w_j = r(u_j),   u = u_j with probability w_j / Σ w,   ESS / P = (Σ w)² / (P Σ w²)

One of P is chosen as the largest of log w_j + g_j, g_j standard Gumbel numbers: no weight has to be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from hebm.noise import Noise

_BLOCK = 128
"""Proposals at a time; a constant, since it decides which numbers a sample gets."""


class Selected(NamedTuple):
    """One proposal of each sample.

    Arguments:
        u: `(n, d)`; NaN where a weight was NaN or infinite, or all were 0.
        share: ESS / P, `(n,)`.
    """

    u: Tensor
    share: Tensor


def select(log_weight: Callable[[Tensor], Tensor], n: int, dim: int, proposals: int, noise: Noise) -> Selected:
    """Choose one of P proposals for each of n samples.

    Arguments:
        log_weight: u `(n, C, d)` → log r `(n, C)`.
        n: samples.
        dim: d.
        proposals: P.
        noise: a row per sample.
    """
    u = noise.normal(0, 0).new_zeros(n, dim)
    best, sums, squares = (u.new_full((n,), -torch.inf) for _ in range(3))
    for block, count in _blocks(proposals):
        source = noise.derive(block)
        offered = source.normal(n, count, dim)
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
    """Number and size of each block."""
    for block, first in enumerate(range(0, proposals, _BLOCK)):
        yield block, min(_BLOCK, proposals - first)
