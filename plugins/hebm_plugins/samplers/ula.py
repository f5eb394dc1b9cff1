"""The unadjusted Langevin algorithm."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from typing_extensions import override

from hebm.config.recipes import option, recipe
from hebm.densities import LogDensity
from hebm.interfaces import Info, Sampler, StepNoise
from hebm.samplers import drawn
from hebm.sampling import step_sizes


class Point(NamedTuple):
    """The state of an unadjusted chain: u `(B, D)`. It has no gradient, which would cost an evaluation at the end."""

    u: Tensor


@recipe
class ULA(Sampler):
    """u ← u + (h/2) ∇log p(u) + √h ξ, ξ ~ N(0, I): the unadjusted Langevin algorithm.

    On N(m, S) it is stable for h < 4 λ_min(S), with stationary covariance S (I − (h/4) S⁻¹)⁻¹.

    Example:
        >>> ULA.from_std(0.5).step_size, ULA.from_drift(0.5).step_size
        (0.25, 1.0)
    """

    steps: int = option(20, doc="K, the number of steps of a chain", low=1)
    step_size: float = option(0.1, doc="step size h, in units of u²", above=0)

    @classmethod
    def from_std(cls, s: float, steps: int = 20) -> ULA:
        """Return the sampler for the convention u + (s²/2) ∇ + s ξ (joint EBM, latent space EBM): h = s²."""
        return cls(steps=steps, step_size=s**2)

    @classmethod
    def from_drift(cls, s: float, steps: int = 20) -> ULA:
        """Return the sampler for the convention u + s ∇ + √(2s) ξ (diffusion and multi-stage papers): h = 2s."""
        return cls(steps=steps, step_size=2 * s)

    @override
    def init(self, density: LogDensity, u: Tensor) -> Point:
        return Point(u)

    @override
    def step(self, density: LogDensity, state: Point, noise: StepNoise) -> tuple[Point, Info]:
        xi = drawn(noise.normal)
        value, grad = density.value_and_grad(state.u)
        h, root = step_sizes(self.step_size, density.scale)
        u = state.u + 0.5 * h * grad + root * xi
        return Point(u), Info(value, grad)
