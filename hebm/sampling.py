"""The one MCMC loop.

`run` draws the noise, calls the sampler's `step`, and shows each step to an observer if there is one. It repairs
nothing: a chain that becomes NaN stays NaN, does not touch any other chain, and is counted.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hebm.densities import Conditioned, LogDensity, frozen
from hebm.draws import Observer
from hebm.fixed import Fixed
from hebm.noise import Noise
from hebm.samplers import Info, Sampler, StepNoise


class Chain(NamedTuple):
    """The end of a run.

    Arguments:
        u: last state of each chain, `(B, D)`.
        nonfinite: how many chains ended with a NaN or an infinity, a scalar tensor.
    """

    u: Tensor
    nonfinite: Tensor


def step_sizes(h: float, scale: float | Tensor) -> tuple[float | Tensor, float | Tensor]:
    """Return h times a density's scale, and its square root: numbers, or `(B, 1)` where the scale is."""
    if isinstance(scale, Tensor):
        return h * scale, (h * scale).sqrt()
    return h * scale, math.sqrt(h * scale)


def draw_step_noise(sampler: Sampler, u: Tensor, noise: Noise) -> StepNoise:
    """Return the random numbers that `sampler` declares for one step at u `(B, D)`."""
    normal = noise.normal(*u.shape) if "normal" in sampler.draws else None
    uniform = noise.uniform(u.shape[0]) if "uniform" in sampler.draws else None
    return StepNoise(normal, uniform)


@torch.no_grad()
def run(
    sampler: Sampler,
    density: LogDensity,
    u: Tensor,
    noise: Noise,
    steps: int | None = None,
    observe: Observer | None = None,
    fixed: Fixed | None = None,
    name: str = "chain",
) -> Chain:
    """Run a chain from each row of u `(B, D)`.

    Arguments:
        sampler: makes each step.
        density: what the chain leaves invariant, up to the sampler's discretisation.
        u: where to start.
        noise: the k-th step takes its k-th draws.
        steps: how many, instead of `sampler.steps`; 0 evaluates nothing.
        observe: called after each step with the whole u; a gradient is 0 at fixed coordinates.
        fixed: coordinates of u that are given; the chain moves the others alone.
        name: what the observer is told of this chain.

    Raises `ConfigError` for a density that the sampler cannot move on.
    """
    if fixed is not None:
        density, u = Conditioned(density, fixed), fixed.free(u)
    sampler.check(density)
    count = sampler.steps if steps is None else steps
    with frozen(*density.modules):
        state = sampler.init(density, u) if count else (u,)
        for k in range(count):
            state, info = sampler.step(density, state, draw_step_noise(sampler, u, noise))
            if observe is not None:
                observe(name, k, *_whole(state, info, fixed))
    end = state[0] if fixed is None else fixed.filled(state[0])
    return Chain(end, (~end.isfinite().all(1)).sum())


def _whole(state: Any, info: Info, fixed: Fixed | None) -> tuple[Any, Info]:
    """Return state and info over all of u `(B, D)`."""
    if fixed is None:
        return state, info
    if info.grad is not None:
        info = info._replace(grad=torch.zeros_like(fixed.u).index_copy(1, fixed.free_index, info.grad))
    return (fixed.filled(state[0]),), info


class Trace:
    """An observer that keeps the log density of every step, and gradient norm and acceptance where it reports them.

    Example:
        >>> trace = Trace()
        >>> trace.values
        []
    """

    def __init__(self) -> None:
        self.values: list[Tensor] = []
        self.grad_norms: list[Tensor] = []
        self.accepted: list[Tensor] = []

    def __call__(self, name: str, step: int, state: Any, info: Info) -> None:
        """Keep this step's value, gradient norm and acceptance, each `(B,)`."""
        self.values.append(info.value)
        if info.grad is not None:
            self.grad_norms.append(torch.linalg.vector_norm(info.grad, dim=1))
        if info.accepted is not None:
            self.accepted.append(info.accepted)


class States:
    """An observer that keeps u after chosen steps, for images along the chain.

    Arguments:
        every: keep each `every`-th step, the first included.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.u: list[Tensor] = []

    def __call__(self, name: str, step: int, state: Any, info: Info) -> None:
        """Keep a copy of u `(B, D)`."""
        if step % self.every == 0:
            self.u.append(state[0].clone())
