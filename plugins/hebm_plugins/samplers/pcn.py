"""The preconditioned Crank–Nicolson sampler.

For a target exp(−Φ(u)) N(u; m, s² I), with v = (u − m)/s and β² = h:

    v' = √(1 − β²) v + β ξ,  ξ ~ N(0, I);     accept with probability min{1, exp(Φ(v) − Φ(v'))}

References:
    Cotter, Roberts, Stuart, White: MCMC methods for functions, Statistical Science 28, 2013, section 4.2.
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


class Placed(NamedTuple):
    """u `(B, D)` with the remainder −Φ(u) `(B,)`, kept so that a rejection needs no new evaluation."""

    u: Tensor
    remainder: Tensor


@recipe
class PCN(Sampler):
    """Propose v' = √(1 − h) v + √h ξ, v = (u − m)/s; accept with probability min(1, exp(r(u') − r(u))).

    m and s are the mean and standard deviation of the density's Gaussian factor, and r is the remainder, such as an
    energy. The proposal leaves the Gaussian factor invariant, so acceptance does not fall with the number of
    coordinates that r ignores. No gradients are evaluated. A proposal with a NaN is rejected. Source: Cotter, Roberts,
    Stuart and White 2013, section 4.2.

    Example:
        >>> PCN(step_size=0.5).with_step_size(3.0).step_size
        1.0
    """

    draws = ("normal", "uniform")
    needs_factor = True

    steps: int = option(20, doc="K, the number of steps of a chain", low=1)
    step_size: float = option(0.1, doc="step size h = β², in units of s²; 1 for independent proposals", above=0, high=1)
    target_acceptance: float = option(0.0, doc=TARGET, low=0, high=1)

    def with_step_size(self, h: float) -> PCN:
        """Return the same sampler with step size h, at most 1."""
        return attrs.evolve(self, step_size=min(h, 1.0))  # type: ignore[misc]

    @override
    def init(self, density: LogDensity, u: Tensor) -> Placed:
        return Placed(u, density.remainder(u).detach())

    @override
    def step(self, density: LogDensity, state: Placed, noise: StepNoise) -> tuple[Placed, Info]:
        (mean, std), xi, uniform = known_factor(density), drawn(noise.normal), drawn(noise.uniform)
        v = (state.u - mean) / std
        u = mean + std * (math.sqrt(1 - self.step_size) * v + math.sqrt(self.step_size) * xi)
        remainder = density.remainder(u).detach()
        accept = uniform.log() < remainder - state.remainder  # False for NaN
        accept = accept & u.isfinite().all(1) & remainder.isfinite()
        moved = Placed(torch.where(accept.unsqueeze(1), u, state.u), torch.where(accept, remainder, state.remainder))
        value = density.gaussian(moved.u).value + moved.remainder
        return moved, Info(value, accepted=accept.to(u.dtype))
