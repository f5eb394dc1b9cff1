"""Short-run Langevin dynamics, with the step size in the convention of a paper."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from hebm.config.recipes import option, recipe
from hebm.densities import LogDensity
from hebm.interfaces import Info, Sampler, StepNoise
from hebm.samplers import drawn
from hebm.sampling import step_sizes
from hebm_plugins.samplers.ula import Point


@recipe
class Langevin(Sampler):
    """u ← u + (h/2τ) ∇log p(u) + c √h ξ, ξ ~ N(0, I), with h in the convention of a paper.

    With c = 1 the target is p^(1/τ), up to discretisation error; c = 0 is gradient ascent.

    | `convention` | the paper's step | h for `step_size` s or h |
    |---|---|---|
    | `std` | u + (s²/2) ∇ + s ξ: joint EBM (arXiv 2306.06323), latent space EBM (arXiv 2006.08205) | s² |
    | `step` | u + (h/2) ∇ + √h ξ: two-stage joint EBM, VAEBM | h |
    | `drift` | u + s ∇ + √(2s) ξ: diffusion EBM (arXiv 2405.13910), multi-stage EBM | 2s |

    Example:
        >>> Langevin(step_size=0.5, convention="std").h, Langevin(step_size=0.5, convention="drift").h
        (0.25, 1.0)
    """

    steps: int = option(60, doc="K, the number of steps of a chain", low=1)
    step_size: float = option(0.4, doc="step size, in the unit of the convention", above=0)
    convention: str = option("std", doc="the formula that step_size belongs to", choices=("std", "step", "drift"))
    noise_scale: float = option(1.0, doc="c, the factor of the noise; 0 for gradient ascent", low=0)
    temperature: float = option(1.0, doc="τ, the temperature: the target is p^(1/τ)", above=0)

    @property
    def h(self) -> float:
        """Return h, the step size of u ← u + (h/2) ∇log p + √h ξ."""
        return {"std": self.step_size**2, "step": self.step_size, "drift": 2 * self.step_size}[self.convention]

    @override
    def init(self, density: LogDensity, u: Tensor) -> Point:
        return Point(u)

    @override
    def step(self, density: LogDensity, state: Point, noise: StepNoise) -> tuple[Point, Info]:
        xi = drawn(noise.normal)
        value, grad = density.value_and_grad(state.u)
        h, root = step_sizes(self.h, density.scale)
        u = state.u + (0.5 / self.temperature) * h * grad + self.noise_scale * root * xi
        return Point(u), Info(value, grad)
