"""The MCMC loop that runs all chains.

`run` draws the noise, calls the sampler's `step`, and passes each step to the observer, if any. It does not repair NaN:
a chain that becomes NaN stays NaN, does not affect other chains, and is counted.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hebm.densities import Conditioned, LogDensity, frozen
from hebm.draws import Observer
from hebm.fixed import Fixed
from hebm.memory import keep_freed_memory
from hebm.noise import Noise
from hebm.samplers import Info, Sampler, StepNoise


class Chain(NamedTuple):
    """The result of `run`.

    Arguments:
        u: last state of each chain, `(B, D)`.
        nonfinite: number of chains that ended with a NaN or an infinity, a scalar tensor.
    """

    u: Tensor
    nonfinite: Tensor


def step_sizes(h: float, scale: float | Tensor) -> tuple[float | Tensor, float | Tensor]:
    """Return h times a density's scale, and its square root: numbers, or tensors `(B, 1)` if the scale is one."""
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
    """Run one chain from each row of u `(B, D)`.

    Arguments:
        sampler: makes each step.
        density: the density that the chain leaves invariant, up to the discretisation of the sampler.
        u: starting points.
        noise: step k takes its k-th draws.
        steps: number of steps, in place of `sampler.steps`; 0 evaluates nothing.
        observe: called after each step with the whole u; the gradient is 0 at fixed coordinates.
        fixed: coordinates of u that are given; the chain moves only the others.
        name: the name of the chain, for the observer.

    Raises `ConfigError` if the sampler cannot move on this density.
    """
    keep_freed_memory()
    if fixed is not None:
        density, u = Conditioned(density, fixed), fixed.free(u)
    sampler.check(density)
    count = sampler.steps if steps is None else steps
    draw = partial(draw_step_noise, sampler, u, noise)
    with frozen(*density.modules):
        state = sampler.init(density, u) if count else (u,)
        if observe is None:
            state = sampler.advance(density, state, draw, count)
        else:
            for k in range(count):
                state, info = sampler.step(density, state, draw())
                observe(name, k, *_whole(state, info, fixed))
    end = state[0] if fixed is None else fixed.filled(state[0])
    return Chain(end, (~end.isfinite().all(1)).sum())


def _whole(state: Any, info: Info, fixed: Fixed | None) -> tuple[Any, Info]:
    """Return the state and info of the whole u `(B, D)`, including fixed coordinates."""
    if fixed is None:
        return state, info
    if info.grad is not None:
        info = info._replace(grad=torch.zeros_like(fixed.u).index_copy(1, fixed.free_index, info.grad))
    return (fixed.filled(state[0]),), info


class Trace:
    """An observer that records the log density of every step, and its gradient norm and acceptance if reported.

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
        """Record the value, gradient norm and acceptance of this step, each `(B,)`."""
        self.values.append(info.value)
        if info.grad is not None:
            self.grad_norms.append(torch.linalg.vector_norm(info.grad, dim=1))
        if info.accepted is not None:
            self.accepted.append(info.accepted)


class States:
    """An observer that records u at regular steps, for images along the chain.

    Arguments:
        every: record steps 0, `every`, 2 · `every`, …
    """

    def __init__(self, every: int = 1) -> None:
        self.every = every
        self.u: list[Tensor] = []

    def __call__(self, name: str, step: int, state: Any, info: Info) -> None:
        """Record a copy of u `(B, D)`."""
        if step % self.every == 0:
            self.u.append(state[0].clone())
