"""Count the evaluations of f per draw, with and without its gradient."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from hebm.densities import Factor, LogDensity, ValueAndGrad
from hebm.interfaces import MCMC, Draw, Request, Transition
from hebm.trained import TrainedModel

_ROWS = 2


@attrs.frozen
class Evaluations:
    """Number of evaluations of f for one draw.

    Arguments:
        gradients: evaluations with the gradient in u.
        values: evaluations without the gradient: proposals for starts, weights of particles, and steps of chains.
    """

    gradients: float
    values: float


def evaluations_of(model: TrainedModel) -> Evaluations:
    """Count the evaluations of f in a few draws with the model's request.

    Each evaluation of a chain's density counts. A start adds its proposals, and each particle one weight before every
    transition.
    """
    counts = {True: 0, False: 0}
    request, particles = model.request, model.prior.population.count
    for _ in model.walk(_ROWS, model.noise("count"), path=tuple(_counted(t, counts) for t in model.path)):
        pass
    asked = [request.start_proposals or t.start_proposals for t in model.path if t.start_proposals]
    starts = sum(count for count in asked if count > 1)
    weights = particles * len(model.path) if particles > 1 else 0
    return Evaluations(counts[True] / _ROWS, counts[False] / _ROWS + starts + weights)


def _counted(transition: Transition, counts: dict[bool, int]) -> Transition:
    """Return the transition with a counting density. Its steps are not accelerated, so each evaluation is counted."""
    if not isinstance(transition, MCMC):
        return transition
    density = transition.density

    def counting(at: Draw, request: Request) -> LogDensity:
        return _Counted(density(at, request), counts)

    return attrs.evolve(transition, sampler=transition.sampler.plain, density=counting)


class _Counted(LogDensity):
    """Wraps a density and counts the points at which its remainder is evaluated, with and without gradient."""

    def __init__(self, density: LogDensity, counts: dict[bool, int]) -> None:
        self.density, self.counts = density, counts
        self.scale, self.modules, self.variant = density.scale, density.modules, density.variant

    def factor(self) -> Factor | None:
        """Return the Gaussian factor of the density that is counted."""
        return self.density.factor()

    def gaussian(self, u: Tensor) -> ValueAndGrad:
        """Return value and gradient of that density's Gaussian factor."""
        return self.density.gaussian(u)

    def remainder(self, u: Tensor) -> Tensor:
        """Return that density's remainder, and count its rows."""
        self.counts[torch.is_grad_enabled()] += len(u)
        return self.density.remainder(u)
