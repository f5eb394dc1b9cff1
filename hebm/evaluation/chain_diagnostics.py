"""Measure how well chains mix: split R̂ and effective sample size of a scalar along several chains.

With M chains of N steps, means θ̄_m and variances s²_m:

    W = mean s²_m,    B = N var θ̄_m,    var⁺ = (N − 1)/N W + B/N,    R̂ = √(var⁺ / W)
    ρ_t = 1 − (W − mean_m s²_m ρ_{t,m}) / var⁺,    τ = −1 + 2 Σ_k (ρ_{2k} + ρ_{2k+1}),    ESS = M N / τ

where the sum runs over k from 0 while its terms are positive. Each chain is first split into two halves.

References:
    Gelman and Rubin, Inference from Iterative Simulation Using Multiple Sequences, Statistical Science 7, 1992.
    Geyer, Practical Markov Chain Monte Carlo, Statistical Science 7, 1992 (the initial positive sequence).
    Vehtari et al., Rank-normalization, folding, and localization: an improved R̂, arXiv 1903.08008, Eqs. 1–4, 10–13.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hebm.errors import DataError

FEWEST = 8


class Mixing(NamedTuple):
    """Mixing of chains: R̂ (1 for chains that agree) and ESS (the equivalent number of independent draws)."""

    rhat: float
    ess: float


def mixing(chains: Tensor) -> Mixing:
    """Return split R̂ and ESS of a scalar along chains `(M, N)`; NaN for constant or non-finite chains.

    Raises `DataError` for fewer than 8 steps.
    """
    if chains.ndim != 2 or not len(chains) or chains.shape[1] < FEWEST:
        raise DataError(
            f"mixing needs chains (M, N) with M ≥ 1 and N ≥ {FEWEST} steps; got shape {tuple(chains.shape)}"
        )
    halves = _halves(chains.double())
    within = halves.var(1).mean()
    pooled = _pooled(halves, within)
    if not bool(within > 0) or not bool(pooled.isfinite()):  # NaN fails the first
        return Mixing(math.nan, math.nan)
    return Mixing(float((pooled / within).sqrt()), _ess(halves, within, pooled))


def _halves(chains: Tensor) -> Tensor:
    """Split each chain into two halves, `(2M, N // 2)`. The middle step of an odd number is dropped."""
    half = chains.shape[1] // 2
    return torch.cat([chains[:, :half], chains[:, -half:]])


def _pooled(chains: Tensor, within: Tensor) -> Tensor:
    """Return var⁺, the pooled estimate of the variance."""
    steps = chains.shape[1]
    return (steps - 1) / steps * within + chains.mean(1).var()


def _ess(chains: Tensor, within: Tensor, pooled: Tensor) -> float:
    total = chains.numel()
    rho = 1 - (within - _autocovariance(chains).mean(0)) / pooled
    rho[0] = 1
    pairs = rho[: len(rho) // 2 * 2].view(-1, 2).sum(1)
    negative = (pairs <= 0).nonzero()
    kept = pairs[: int(negative[0])] if len(negative) else pairs
    time = float(-1 + 2 * kept.sum())
    return total / max(time, 1 / math.log10(total))  # Stan's bound for antithetic chains


def _autocovariance(chains: Tensor) -> Tensor:
    """Return Σ_i (θ_i − θ̄)(θ_{i+t} − θ̄) / (N − 1), `(M, N)`, so that lag 0 is s²_m; computed by FFT."""
    steps = chains.shape[1]
    spectrum = torch.fft.rfft(chains - chains.mean(1, keepdim=True), n=2 * steps)
    products: Tensor = torch.fft.irfft(spectrum.abs().square(), n=2 * steps)
    return products[:, :steps] / (steps - 1)
