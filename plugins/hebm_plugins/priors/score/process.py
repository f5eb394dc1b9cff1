"""The diffusion of one layer, as the difference from the diffusion of N(0, I).

    u_t = α_t u_0 + σ_t ε,   α_t = cos(πt/2),   σ_t = sin(πt/2),   0 ≤ t ≤ 1

u_1 is N(0, I). A net n predicts the residual of the denoised mean, and thereby the residual of the score:

    E[u_0 | u_t] = α_t u_t + σ_t² n(u_t, t),   ∇ log p(u_t) = −u_t + α_t n(u_t, t)

Under N(0, I) both residuals are 0. Compared with N(0, I), n lowers the bound on the divergence KL(q ‖ p) by

    E_t[w_t (2 ⟨n, n*⟩ − |n|²)] nats,   w_t = (π/2) α_t σ_t,   t uniform on [0, 1],

where n* is the residual of q, or any quantity whose conditional mean is this residual. The loss is minus this gain.

References:
    Score-based Generative Modeling in Latent Space, arXiv 2106.05931 (the residual of a normal prior's score).
    Maximum Likelihood Training of Score-Based Diffusion Models, arXiv 2101.09258 (the bound and its weight).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from hebm.normals import Normal


class Level(NamedTuple):
    """α_t and σ_t, each a number or `(B, 1)`."""

    alpha: Tensor | float
    sigma: Tensor | float

    @classmethod
    def of(cls, t: Tensor) -> Level:
        """Return the level of times t `(B,)`."""
        angle = (0.5 * math.pi * t).unsqueeze(1)
        return cls(angle.cos(), angle.sin())

    @classmethod
    def of_step(cls, k: int, steps: int) -> Level:
        """Return the level after k of T steps of the forward process, t = k/T."""
        angle = 0.5 * math.pi * k / steps
        return cls(math.cos(angle), math.sin(angle))

    @property
    def weight(self) -> Tensor | float:
        """Return w_t = (π/2) α_t σ_t."""
        return 0.5 * math.pi * self.alpha * self.sigma

    def noised(self, u: Tensor, eps: Tensor) -> Tensor:
        """Return u_t = α_t u_0 + σ_t ε, `(B, d)`."""
        return self.alpha * u + self.sigma * eps


def residual_of_normal(noised: Tensor, q: Normal, level: Level) -> Tensor:
    """Return n* = (E[u_0 | u_t] − α_t u_t) / σ_t² = (m − α_t (1 − s²) u_t) / (σ_t² + α_t² s²) for u_0 ~ N(m, s² I).

    Arguments:
        noised: u_t, `(B, d)`.
        q: m and s, `(B, d)`.
        level: α_t and σ_t.
    """
    variance = q.std.square()
    return (q.mean - level.alpha * (1 - variance) * noised) / (level.sigma**2 + level.alpha**2 * variance)


def residual_of_point(noised: Tensor, u: Tensor, level: Level) -> Tensor:
    """Return (u_0 − α_t u_t) / σ_t² for a draw u_0 `(B, d)`: an estimate of n* without q, with a larger variance."""
    return (u - level.alpha * noised) / level.sigma**2


def stepped(noised: Tensor, residual: Tensor, here: Level, below: Level, xi: Tensor) -> Tensor:
    """Return u_s = a u_t + α_s (1 − a²) n + √(1 − a²) ξ, a = α_t / α_s, for s < t.

    This is the mean of q(u_s | u_t, u_0) at the predicted u_0, with the larger of the two usual variances, 1 − a². For
    n = 0, a step of any size leaves N(0, I) unchanged.

    Arguments:
        noised: u_t, `(B, d)`.
        residual: n, `(B, d)`.
        here: α_t and σ_t.
        below: α_s and σ_s.
        xi: ξ, `(B, d)`.
    """
    a = here.alpha / below.alpha
    variance = 1 - a * a
    return a * noised + below.alpha * variance * residual + math.sqrt(variance) * xi


def gain(found: Tensor, wanted: Tensor, level: Level) -> Tensor:
    """Return w_t (2 ⟨n, n*⟩ − |n|²) of each row, in nats, `(B, 1)`; n, n* `(B, d)`."""
    return level.weight * (2 * found * wanted - found.square()).sum(1, keepdim=True)
