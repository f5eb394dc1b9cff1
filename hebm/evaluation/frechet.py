"""Compute the Fréchet distance of two Gaussians fitted to features, and its standard error.

    FD = |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (√Σ₂ Σ₁ √Σ₂)^½)

in float64 with the unbiased covariance. The symmetric form has the same trace as (Σ₁Σ₂)^½ and needs only symmetric
eigen-decompositions. No complex numbers arise, and singular covariances need no added diagonal: eigenvalues that
rounding made negative are set to zero.

References:
    GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium, arXiv 1706.08500, Eq. 6.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import attrs
import torch
from torch import Tensor

from hebm.errors import DataError
from hebm.evaluation.jackknife import Estimate, group_count, groups_of

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
    return _distance(first, second, _square_root(second.cov))


def _distance(first: Moments, second: Moments, root: Tensor) -> float:
    """Return the Fréchet distance, given √Σ₂."""
    cross = torch.linalg.eigvalsh(_product(root, first.cov)).clamp(min=0).sqrt().sum()
    squared = (first.mean - second.mean).square().sum()
    return max(0.0, float(squared + first.cov.trace() + second.cov.trace() - 2 * cross))


def _product(root: Tensor, cov: Tensor) -> Tensor:
    """Return √Σ₂ Σ₁ √Σ₂, symmetric in spite of rounding."""
    product = root @ cov @ root
    return (product + product.T) / 2


def few_for(n: int, extractor: str, width: int) -> str:
    """Return a warning if n is below twice the number of an extractor's features, or else ""."""
    if n >= 2 * width:
        return ""
    return (
        f"{n} images are few for the {width} features of {extractor}: the Fréchet distance is biased upwards; "
        f"use {2 * width} or more"
    )


# ---------------------------------------------------------------- the standard error


@attrs.frozen(eq=False, slots=False)
class Reference:
    """Features of the data, with moments and a matrix root that all distances to them share.

    Arguments:
        features: `(M, F)`.
    """

    features: Tensor

    @cached_property
    def moments(self) -> Moments:
        """The mean and covariance of the features."""
        return moments(self.features)

    @cached_property
    def root(self) -> Tensor:
        """The symmetric square root √Σ₂ of the covariance."""
        return _square_root(self.moments.cov)

    def distance(self, found: Moments) -> float:
        """Return the Fréchet distance of images with these moments to the data."""
        return _distance(found, self.moments, self.root)


def frechet_estimate(features: Tensor, reference: Reference, found: Moments | None = None) -> Estimate:
    """Return the Fréchet distance of features `(N, F)` to those of the data, with its delete-a-group jackknife.

    The jackknife removes the same group from both sets, so the error includes the sampling of the data. Without
    group g,

        FD₍g₎ = FD + |Δ₍g₎|² − |Δ|² + tr (I − T) δΣ₁ + tr (I − T⁻¹) δΣ₂,    Δ = μ₁ − μ₂,
        T = √Σ₂ (√Σ₂ Σ₁ √Σ₂)^(−½) √Σ₂,

    to first order in the changes δΣ of the covariances; the means and δΣ themselves are exact. All groups share one
    eigen-decomposition per kind of images, so their number costs nothing.

    Arguments:
        features: features of the images, `(N, F)`.
        reference: features of the data.
        found: moments of `features`, if already known.
    """
    first, second, groups = (
        found or moments(features),
        reference.moments,
        group_count(len(features), len(reference.features)),
    )
    value = reference.distance(first)
    if not groups:
        return Estimate(value, torch.empty(0, dtype=torch.float64))
    there, back = _transports(first.cov, reference.root)
    shift, traces = _changes(features, first, there, groups)
    other_shift, other_traces = _changes(reference.features, second, back, groups)
    means = first.mean - second.mean
    squares = (means + shift - other_shift).square().sum(1) - means.square().sum()
    return Estimate(value, value + squares + traces + other_traces)


def _transports(cov: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
    """Return T and T⁻¹ on the subspace in which both covariances have variance.

    With √Σ₁ √Σ₂ = U S Vᵀ they are √Σ₂ V S⁻¹ Vᵀ √Σ₂ and √Σ₁ U S⁻¹ Uᵀ √Σ₁, where √Σ₁ U S = Σ₁ √Σ₂ V.

    Arguments:
        cov: Σ₁.
        root: √Σ₂.
    """
    values, vectors = torch.linalg.eigh(_product(root, cov))
    half = root @ vectors
    there = (half * _powers(values, -0.5)) @ half.T
    other = cov @ half
    return there, (other * _powers(values, -1.5)) @ other.T


def _changes(features: Tensor, found: Moments, transport: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return how the mean, `(G, F)`, and tr (I − T) Σ, `(G,)`, change without each group.

    Arguments:
        features: `(N, F)`.
        found: their moments.
        transport: T, `(F, F)`.
        groups: G.
    """
    group, centred = groups_of(len(features), groups), features.double() - found.mean
    slope = torch.eye(len(transport), dtype=torch.float64) - transport
    quadratic = ((centred @ slope) * centred).sum(1)
    left = len(features) - torch.bincount(group, minlength=groups).double()
    shift = -centred.new_zeros(groups, centred.shape[1]).index_add_(0, group, centred) / left[:, None]
    removed = quadratic.new_zeros(groups).index_add_(0, group, quadratic)
    within = quadratic.sum() - removed - left * ((shift @ slope) * shift).sum(1)
    return shift, within / (left - 1) - quadratic.sum() / (len(features) - 1)


def standard_error(features: Tensor, reference: Moments) -> float:
    """Return the standard error of the Fréchet distance of features `(N, F)` to fixed moments.

    To first order, FD is a mean over the features x of

        2 (μ − μ₂)ᵀ (x − μ) + (x − μ)ᵀ (I − T) (x − μ)

    up to a constant. Its variance is the variance of these numbers divided by N. For few or singular features the error
    is a rough estimate.
    """
    found, centred = moments(features), features.double() - features.double().mean(0)
    root = _square_root(reference.cov)
    values, vectors = torch.linalg.eigh(_product(root, found.cov))
    along = centred @ root @ vectors
    quadratic = centred.square().sum(1) - (along.square() * _powers(values, -0.5)).sum(1)
    influence = 2 * centred @ (found.mean - reference.mean) + quadratic
    return float(influence.std() / len(influence) ** 0.5)


def _powers(values: Tensor, exponent: float) -> Tensor:
    """Return powers of eigenvalues, and 0 for eigenvalues that are 0 up to rounding."""
    return torch.where(values > _SINGULAR * values.max(), values.clamp(min=1e-300).pow(exponent), 0.0)


def _square_root(cov: Tensor) -> Tensor:
    """Return the symmetric square root of a positive semi-definite matrix."""
    values, vectors = torch.linalg.eigh(cov)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
