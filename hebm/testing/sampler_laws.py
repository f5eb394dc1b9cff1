"""Check that chains of a sampler keep a density. Every check is called with a sampler."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hebm.densities import LogDensity
from hebm.interfaces import Sampler
from hebm.noise import Noise
from hebm.sampling import run
from hebm.testing.promises import expect
from hebm.testing.samplers import COV, DIM, MEAN, fitting, move, one_step, starts, step_noise, target
from hebm.testing.skewed import SkewedTarget, skewed_draws
from hebm.testing.stein import BOUND, standard_errors

CHAINS, STEPS, ERRORS = 8192, 100, 4.0
PLAIN_H = 0.4
"""Step size h of the chains whose distribution is compared."""
NOT_STATIONARY = (
    "in an adjusted sampler, accept with probability min(1, p(u') q(u|u') / (p(u) q(u'|u))), where q(u'|u) is the "
    "density of the proposal, draw a new xi and a new uniform at every step, and keep values and gradients of the u in "
    "the state. In an unadjusted sampler, move by u' = u + (h/2) grad log p(u) + sqrt(h) xi. Check a tempered sampler "
    "with temperature 1"
)


def unit_h(sampler: Sampler) -> float:
    """Return the sampler's h at scale 1, from the size of its noise."""
    return float(move(sampler, 0.0, 1.0)[0, 0]) ** 2


def chain(sampler: Sampler, density: LogDensity, start: Tensor) -> tuple[Tensor, bool]:
    """Return the end of a chain from each start, and whether the sampler adjusts its steps."""
    adjusted = one_step(sampler, density, start, step_noise(sampler, start))[1].accepted is not None
    with torch.no_grad():
        return run(sampler, density, start, Noise(0, "chain", dtype=torch.float64), STEPS).u, adjusted


def check_stationary(sampler: Sampler) -> None:
    """Check that the sampler keeps N(m, S), to 4 standard errors.

    An unadjusted sampler may have ULA's covariance, S (I − (h/4) S⁻¹)⁻¹.
    """
    h = unit_h(sampler)
    expect(h > 0, "noise moves u", "u does not move", NOT_STATIONARY)
    start = MEAN + starts(CHAINS) @ torch.linalg.cholesky(COV).T
    end, adjusted = chain(sampler, target(sampler, PLAIN_H / h), start)
    off = {"the exact moments": _standard_errors(end, COV)}
    if not adjusted:
        bias = torch.eye(DIM, dtype=torch.float64) - PLAIN_H / 4 * torch.linalg.inv(COV)
        off["the moments of ULA"] = _standard_errors(end, COV @ torch.linalg.inv(bias))
    seen = " and ".join(f"{errors:.1f} standard errors from {name}" for name, errors in off.items())
    expected = f"chains that start from a Gaussian keep its moments within {ERRORS:g} standard errors"
    expect(min(off.values()) <= ERRORS, expected, f"moments are {seen} (at h = {PLAIN_H:g})", NOT_STATIONARY)


def check_stationary_skewed(sampler: Sampler) -> None:
    """Check that a chain that starts from a skewed density keeps it: Stein's identity holds to 5 standard errors.

    An unadjusted sampler may have ULA's bias. Then E[s uᵀ + I + (h/4) s sᵀ] = 0 replaces E[s uᵀ + I] = 0, with
    s = ∇ log p, in the symmetric part.
    """
    h = unit_h(sampler)
    density = fitting(sampler, SkewedTarget(PLAIN_H / h if h else 1.0))
    u, adjusted = chain(sampler, density, skewed_draws(CHAINS))
    score = density.value_and_grad(u).grad
    exact, waves = linear_terms(score, u), [u.sin() * score + u.cos(), u.sin().flip(1) * score]
    off = {"for an exact sampler": standard_errors(torch.cat([score, exact.flatten(1), *waves], dim=1))}
    if not adjusted:
        biased = exact + PLAIN_H / 4 * score.unsqueeze(2) * score.unsqueeze(1)
        off["for ULA"] = standard_errors(torch.cat([score, biased.flatten(1)], dim=1))
    seen = " and ".join(f"{errors:.1f} standard errors {name}" for name, errors in off.items())
    expected = f"chains that start from a skewed density satisfy Stein's identity within {BOUND:g} standard errors"
    expect(min(off.values()) <= BOUND, expected, f"a deviation of {seen} (at h = {PLAIN_H:g})", NOT_STATIONARY)


def linear_terms(score: Tensor, u: Tensor) -> Tensor:
    """Return the symmetric part of s uᵀ + I `(n, D, D)`, whose mean is 0 under the density."""
    outer = score.unsqueeze(2) * u.unsqueeze(1)
    return 0.5 * (outer + outer.mT) + torch.eye(u.shape[1], dtype=u.dtype)


def _standard_errors(sample: Tensor, cov: Tensor) -> float:
    """Return the largest deviation of mean and covariance from N(MEAN, cov), in standard errors."""
    n, var = len(sample), cov.diagonal()
    mean_error = (sample.mean(0) - MEAN).abs() / (var / n).sqrt()
    centred = sample - MEAN
    spread = ((var.outer(var) + cov.square()) / n).sqrt()
    cov_error = (centred.T @ centred / n - cov).abs() / spread
    largest = torch.cat([mean_error, cov_error.flatten()]).max()
    return float(largest) if bool(largest.isfinite()) else math.inf
