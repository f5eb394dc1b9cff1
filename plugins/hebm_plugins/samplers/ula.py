"""The unadjusted Langevin algorithm."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from hebm.config.recipes import option, recipe
from hebm.densities import LogDensity
from hebm.interfaces import Info, Sampler, StepNoise
from hebm.samplers import drawn
from hebm.sampling import step_sizes


class Point(NamedTuple):
    """The state of an unadjusted chain: u `(B, D)`. A carried gradient would be evaluated once too often."""

    u: Tensor


@recipe
class ULA(Sampler):
    """u ← u + (h/2) ∇log p(u) + √h ξ, ξ ~ N(0, I).

    On N(m, S) it is stable for h < 4 λ_min(S) and its stationary covariance is S (I − (h/4) S⁻¹)⁻¹.

    Example:
        >>> ULA.from_std(0.4).step_size
        0.16000000000000003
    """

    steps: int = option(20, doc="K, the number of steps of a chain", low=1)
    step_size: float = option(0.1, doc="step size h, in units of u²", above=0)

    @classmethod
    def from_std(cls, s: float, steps: int = 20) -> ULA:
        """Convert from the convention u + (s²/2) ∇ + s ξ (joint EBM, latent space EBM): h = s²."""
        return cls(steps=steps, step_size=s**2)

    @classmethod
    def from_drift(cls, s: float, steps: int = 20) -> ULA:
        """Convert from the convention u + s ∇ + √(2s) ξ (diffusion and multi-stage papers): h = 2s."""
        return cls(steps=steps, step_size=2 * s)

    def init(self, density: LogDensity, u: Tensor) -> Point:
        """Return the point itself."""
        return Point(u)

    def step(self, density: LogDensity, state: Point, noise: StepNoise) -> tuple[Point, Info]:
        """Make one Euler step."""
        xi = drawn(noise.normal)
        value, grad = density.value_and_grad(state.u)
        h, root = step_sizes(self.step_size, density.scale)
        u = state.u + 0.5 * h * grad + root * xi
        return Point(u), Info(value, grad)
