"""The one MCMC loop.

`run` draws the noise, calls the sampler's `step`, and shows each step to an observer if there is one. It repairs
nothing: a chain that becomes NaN stays so, touches no other chain, and is counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hebm.densities import Held, LogDensity, frozen
from hebm.interfaces import Info, Sampler, StepNoise
from hebm.latents import Hold
from hebm.noise import Noise

Observer = Callable[[int, Any, Info], None]
"""Called as `observe(step, state, info)` after each step; `state[0]` is u."""


class Chain(NamedTuple):
    """The end of a run.

    Arguments:
        u: last state of each chain, `(B, D)`.
        nonfinite: how many chains ended with a NaN or an infinity, a scalar tensor.
    """

    u: Tensor
    nonfinite: Tensor


def step_sizes(h: float, scale: float | Tensor) -> tuple[float | Tensor, float | Tensor]:
    """h times a density's scale, and its square root: numbers, or `(B, 1)` where the scale is."""
    if isinstance(scale, Tensor):
        return h * scale, (h * scale).sqrt()
    return h * scale, math.sqrt(h * scale)


def draw_step_noise(sampler: Sampler, u: Tensor, noise: Noise) -> StepNoise:
    """The random numbers that `sampler` declares for one step at u `(B, D)`."""
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
    hold: Hold | None = None,
) -> Chain:
    """Run a chain from each row of u `(B, D)`.

    Arguments:
        sampler: the transition.
        density: what it leaves invariant, up to its discretisation.
        u: where to start.
        noise: the k-th step takes its k-th draws.
        steps: how many, instead of `sampler.steps`.
        observe: called after each step.
        hold: coordinates of u that are given; the chain moves, and an observer sees, the others alone.
    """
    if hold is not None:
        density, u = Held(density, hold), hold.free(u)
    with frozen(*density.modules):
        state = sampler.init(density, u)
        for k in range(sampler.steps if steps is None else steps):
            state, info = sampler.step(density, state, draw_step_noise(sampler, u, noise))
            if observe is not None:
                observe(k, state, info)
    end = state[0] if hold is None else hold.filled(state[0])
    return Chain(end, (~end.isfinite().all(1)).sum())


def later(observe: Observer | None, done: int) -> Observer | None:
    """An observer whose steps count on from `done`: of a chain after others."""
    if observe is None:
        return None

    def counting(step: int, state: Any, info: Info) -> None:
        observe(done + step, state, info)

    return counting


class Trace:
    """An observer that keeps the log density, gradient norm and acceptance of every step.

    Example:
        >>> trace = Trace()
        >>> trace.values
        []
    """

    def __init__(self) -> None:
        self.values: list[Tensor] = []
        self.grad_norms: list[Tensor] = []
        self.accepted: list[Tensor] = []

    def __call__(self, step: int, state: Any, info: Info) -> None:
        """Keep this step's figures, each `(B,)`."""
        self.values.append(info.value)
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

    def __call__(self, step: int, state: Any, info: Info) -> None:
        """Keep a copy of u `(B, D)`."""
        if step % self.every == 0:
            self.u.append(state[0].clone())
