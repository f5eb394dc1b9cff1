"""The Metropolis-adjusted Langevin algorithm."""

from __future__ import annotations

from typing import NamedTuple

import attrs
import torch
from torch import Tensor
from typing_extensions import override

from hebm.config.recipes import option, recipe
from hebm.densities import LogDensity
from hebm.interfaces import Info, Sampler, StepNoise
from hebm.samplers import TARGET, drawn
from hebm.sampling import step_sizes


class Evaluated(NamedTuple):
    """u `(B, D)` with log p(u) `(B,)` and its gradient `(B, D)`, kept so that a rejection needs no new evaluation."""

    u: Tensor
    value: Tensor
    grad: Tensor


@recipe
class MALA(Sampler):
    """Propose u' = u + (h/2) ∇log p(u) + √h ξ; accept with probability min(1, p(u') q(u|u') / (p(u) q(u'|u))).

    This is the Metropolis-adjusted Langevin algorithm (Roberts and Tweedie 1996). It leaves p exactly invariant,
    without discretisation error. A proposal with a NaN is rejected.

    Example:
        >>> from hebm import Joint
        >>> Joint(sampler=MALA(steps=40, target_acceptance=0.6)).sampler.target_acceptance
        0.6
    """

    draws = ("normal", "uniform")

    steps: int = option(20, doc="K, the number of steps of a chain", low=1)
    step_size: float = option(0.1, doc="step size h, in units of u²", above=0)
    target_acceptance: float = option(0.0, doc=TARGET, low=0, high=1)

    def with_step_size(self, h: float) -> MALA:
        """Return the same sampler with step size h."""
        return attrs.evolve(self, step_size=h)  # type: ignore[misc]

    @override
    def init(self, density: LogDensity, u: Tensor) -> Evaluated:
        return Evaluated(u, *density.value_and_grad(u))

    @override
    def step(self, density: LogDensity, state: Evaluated, noise: StepNoise) -> tuple[Evaluated, Info]:
        h, root = step_sizes(self.step_size, density.scale)
        xi, uniform = drawn(noise.normal), drawn(noise.uniform)
        u = state.u + 0.5 * h * state.grad + root * xi
        value, grad = density.value_and_grad(u)
        # log q(u|u') − log q(u'|u); the forward residual is √h ξ
        backward = ((state.u - u - 0.5 * h * grad) / root).square().sum(1)
        forward = xi.square().sum(1)
        log_ratio = value - state.value + 0.5 * (forward - backward)
        # False for a NaN or an infinity in u or grad: `backward` is then NaN or infinite, and the ratio NaN or −∞
        accept = uniform.log() < log_ratio
        moved = Evaluated(*(torch.where(_like(accept, a), a, b) for a, b in zip((u, value, grad), state, strict=True)))
        return moved, Info(moved.value, moved.grad, accept.to(u.dtype))


def _like(mask: Tensor, tensor: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (tensor.ndim - 1))
