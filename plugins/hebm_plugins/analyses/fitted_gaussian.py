"""Fit a Gaussian with full covariance to points, even if there are fewer points than dimensions.

    x ~ N(m, Σ),    Σ = ρ ν I + (1 − ρ) S,

Here m and S are the mean and covariance of N points in D dimensions, and ν = tr S / D. The shrinkage ρ estimates the
weight at which Σ is closest to the true covariance. A draw is m + √(ρν) ε + √((1 − ρ)/N) Xᵀ ξ with the centred points X
`(N, D)`, so no D × D matrix is needed.

References:
    Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, 2004, section 3.2.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from hebm.noise import Noise

_CHUNK = 4096


@attrs.frozen(eq=False)
class FittedGaussian:
    """N(m, ρ ν I + (1 − ρ) S).

    Arguments:
        mean: m, `(D,)`.
        centred: X, `(N, D)`.
        variance: ν.
        shrinkage: ρ, in [0, 1].
    """

    mean: Tensor
    centred: Tensor
    variance: float
    shrinkage: float

    def at(self, isotropic: Tensor, noise: Noise) -> Tensor:
        """Return draws `(B, D)`, given ε `(B, D)` and noise for ξ."""
        x = self.centred.to(isotropic)
        correlated = noise.normal(len(isotropic), len(x)) @ x / len(x) ** 0.5
        along, across = (1 - self.shrinkage) ** 0.5, (self.shrinkage * self.variance) ** 0.5
        drawn: Tensor = self.mean.to(x) + across * isotropic + along * correlated
        return drawn


def fit_gaussian(points: Tensor) -> FittedGaussian:
    """Fit a Gaussian to points `(N, D)`.

    With |·| the Frobenius norm divided by √D: d² = |S − νI|², b² = min(d², Σ_k |x_k x_kᵀ − S|² / N²), ρ = b² / d².
    """
    mean = points.double().mean(0)
    centred = (points - mean).to(points)
    n, dim = centred.shape
    gram = torch.zeros(n, n, dtype=torch.float64)
    for part in torch.split(centred, _CHUNK, dim=1):
        gram += part.double() @ part.double().T
    squares = gram.diagonal()
    variance, squared_norm = float(squares.sum() / (n * dim)), float(gram.square().sum() / n**2)
    distance = squared_norm - dim * variance**2
    error = (float(squares.square().sum()) / n - squared_norm) / n
    shrinkage = min(1.0, max(0.0, error / distance)) if distance > 0 else 1.0
    return FittedGaussian(mean.to(points), centred, variance, shrinkage)
