"""The Fréchet distance of two Gaussians fitted to features.

    FD = |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (√Σ₁ Σ₂ √Σ₁)^½)

in float64 with the unbiased covariance. The symmetric form has the trace of (Σ₁Σ₂)^½ and needs only symmetric
eigen-decompositions, so nothing complex arises and nothing is added to the diagonal of a singular covariance:
eigenvalues that rounding made negative are zero.

References:
    GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, arXiv 1706.08500, Eq. 6.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hebm.errors import DataError

_SINGULAR = 1e-10


class Moments(NamedTuple):
    """Mean `(F,)` and unbiased covariance `(F, F)` of features, float64."""

    mean: Tensor
    cov: Tensor


def moments(features: Tensor) -> Moments:
    """Return mean and unbiased covariance of features `(N, F)`. Raises `DataError` for fewer than two rows."""
    if len(features) < 2:
        raise DataError(f"a covariance needs at least 2 images, got {len(features)}: raise evaluate.samples")
    features = features.double()
    mean = features.mean(0)
    centred = features - mean
    return Moments(mean, centred.T @ centred / (len(features) - 1))


def frechet_distance(first: Moments, second: Moments) -> float:
    """Return the Fréchet distance of two fitted Gaussians, at least 0."""
    root = _square_root(first.cov)
    product = root @ second.cov @ root
    cross = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    squared = (first.mean - second.mean).square().sum()
    return max(0.0, float(squared + first.cov.trace() + second.cov.trace() - 2 * cross))


def standard_error(features: Tensor, reference: Moments) -> float:
    """Return the standard error of the Fréchet distance of features `(N, F)` to fixed moments.

    To first order, FD is a mean over the features x of

        2 (μ − μ₂)ᵀ (x − μ) + (x − μ)ᵀ G (x − μ),    G = I − √Σ₂ (√Σ₂ Σ √Σ₂)^(−½) √Σ₂,

    up to a constant, so its variance is that of these numbers divided by N. Of few or singular features it is rough.
    """
    found, centred = moments(features), features.double() - features.double().mean(0)
    root = _square_root(reference.cov)
    values, vectors = torch.linalg.eigh(root @ found.cov @ root)
    inverse = torch.where(values > _SINGULAR * values.max(), values.clamp(min=1e-300).rsqrt(), 0.0)
    along = centred @ root @ vectors
    quadratic = centred.square().sum(1) - (along.square() * inverse).sum(1)
    influence = 2 * centred @ (found.mean - reference.mean) + quadratic
    return float(influence.std() / len(influence) ** 0.5)


def _square_root(cov: Tensor) -> Tensor:
    """Return the symmetric square root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(cov)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
