"""Importance weights of P particles per sample: what they are worth, and choosing by them.

Weights are w_j = exp(log w_j), up to a factor per sample. A sample's particles are its own, so that samples stay
independent of each other.

References:
    Sampling importance resampling: Rubin 1987. Systematic resampling: Kitagawa 1996.
"""

from __future__ import annotations

import torch
from torch import Tensor


def effective_share(log_weights: Tensor) -> Tensor:
    """ESS / P = (Σ_j w_j)² / (P Σ_j w_j²), from 1/P to 1, `(n,)`.

    Arguments:
        log_weights: `(n, P)`.
    """
    double = 2 * log_weights.logsumexp(1) - (2 * log_weights).logsumexp(1)
    return double.exp() / log_weights.shape[1]


def resample(log_weights: Tensor, uniform: Tensor) -> Tensor:
    """Indices of P particles of each sample, particle j about P w_j / Σ w times (systematic), `(n, P)`.

    Of a sample with a NaN among its weights nothing can be chosen: its indices are those of its own particles.

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
    """One particle of each sample, j with probability w_j / Σ w, `(n,)`; the first where a weight is NaN.

    Arguments:
        log_weights: `(n, P)`.
        uniform: on [0, 1), `(n,)`.
    """
    heights = log_weights.softmax(1).cumsum(1)
    points = uniform.unsqueeze(1) * heights[:, -1:]
    chosen = torch.searchsorted(heights.contiguous(), points.contiguous(), right=True).squeeze(1)
    return torch.where(heights[:, -1].isnan(), 0, chosen.clamp(max=log_weights.shape[1] - 1))
