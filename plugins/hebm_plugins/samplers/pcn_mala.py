"""The preconditioned Crank–Nicolson Langevin sampler.

For a target exp(−Φ(u)) N(u; m, s² I), with v = (u − m)/s, g = ∇_v Φ = s ∇_u Φ and δ = h/2:

    v' = [(2 − δ) v − 2δ g(v) + √(8δ) ξ] / (2 + δ),  ξ ~ N(0, I)
    accept with probability min{1, exp(ρ(v, v') − ρ(v', v))}
    ρ(v, w) = Φ(v) + ½ ⟨w − v, g(v)⟩ + (δ/4) ⟨v + w, g(v)⟩ + (δ/4) |g(v)|²

At δ = 2 the proposal is N(−g, I), which depends on v through g alone.

References:
    Cotter, Roberts, Stuart, White: MCMC methods for functions, Statistical Science 28, 2013, section 4.3.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import attrs
import torch
from torch import Tensor
from typing_extensions import override

from hebm.config.recipes import option, recipe
from hebm.densities import LogDensity, known_factor
from hebm.interfaces import Info, Sampler, StepNoise
from hebm.samplers import TARGET, drawn


class Sloped(NamedTuple):
    """u `(B, D)`, the remainder −Φ `(B,)` and its gradient in u, kept so that a rejection needs no new evaluation."""

    u: Tensor
    remainder: Tensor
    slope: Tensor


@recipe
class PCNMALA(Sampler):
    """Propose v' = [(2 − δ) v + 2δ s ∇r(u) + √(8δ) ξ] / (2 + δ), v = (u − m)/s, δ = h/2; accept or reject it.

    m and s are the mean and standard deviation of the density's Gaussian factor, and r is the remainder, such as an
    energy. Where r is constant, the proposal leaves the Gaussian factor invariant and is always accepted. Acceptance
    therefore does not fall with the number of coordinates that r ignores. For small h it is a Langevin step in units
    of s. A proposal with a NaN is rejected. Source: Cotter, Roberts, Stuart and White 2013, section 4.3.

    Example:
        >>> PCNMALA(target_acceptance=0.5).with_step_size(9.0).step_size
        4.0
    """

    draws = ("normal", "uniform")
    needs_factor = True

    steps: int = option(20, doc="K, the number of steps of a chain", low=1)
    step_size: float = option(0.6, doc="step size h = 2δ, in units of s²", above=0, high=4)
    target_acceptance: float = option(0.0, doc=TARGET, low=0, high=1)

    def with_step_size(self, h: float) -> PCNMALA:
        """Return the same sampler with step size h, at most 4."""
        return attrs.evolve(self, step_size=min(h, 4.0))  # type: ignore[misc]

    @override
    def init(self, density: LogDensity, u: Tensor) -> Sloped:
        return Sloped(u, *density.remainder_and_grad(u))

    @override
    def step(self, density: LogDensity, state: Sloped, noise: StepNoise) -> tuple[Sloped, Info]:
        (mean, std), xi, uniform = known_factor(density), drawn(noise.normal), drawn(noise.uniform)
        delta = self.step_size / 2
        v, g = (state.u - mean) / std, -std * state.slope
        w = ((2 - delta) * v - 2 * delta * g + math.sqrt(8 * delta) * xi) / (2 + delta)
        new = self.init(density, mean + std * w)
        accept = uniform.log() < self.log_ratio(density, state, new)  # False for NaN
        accept = accept & new.u.isfinite().all(1) & new.remainder.isfinite() & new.slope.isfinite().all(1)
        rows = (accept.unsqueeze(1), accept, accept.unsqueeze(1))
        moved = Sloped(*(torch.where(*parts) for parts in zip(rows, new, state, strict=True)))
        value, quadratic = density.gaussian(moved.u)
        return moved, Info(value + moved.remainder, quadratic + moved.slope, accept.to(xi.dtype))

    def log_ratio(self, density: LogDensity, state: Sloped, new: Sloped) -> Tensor:
        """Return log p(u') q(u|u') / (p(u) q(u'|u)) = ρ(v, v') − ρ(v', v), `(B,)`."""
        (mean, std), delta = known_factor(density), self.step_size / 2

        def rho(at: Sloped, other: Sloped) -> Tensor:
            v, w, g = (at.u - mean) / std, (other.u - mean) / std, -std * at.slope
            field = 0.5 * (w - v) + (delta / 4) * (v + w + g)
            return (field * g).sum(1) - at.remainder

        return rho(state, new) - rho(new, state)
