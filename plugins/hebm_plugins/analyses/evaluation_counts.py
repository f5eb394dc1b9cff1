"""How often a draw evaluates f, with and without its gradient."""

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
    """Evaluations of f for one draw.

    Arguments:
        gradients: with the gradient in u.
        values: without it: of proposals for starts, of particles' weights, and in chains.
    """

    gradients: float
    values: float


def evaluations_of(model: TrainedModel) -> Evaluations:
    """Count them in a few draws as the model's request asks for.

    A chain counts each evaluation of its density; a start counts its proposals, and particles one weight each before
    every transition.
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
    """Return the same transition, whose density counts; steps are not accelerated, so that each is seen."""
    if not isinstance(transition, MCMC):
        return transition
    density = transition.density

    def counting(at: Draw, request: Request) -> LogDensity:
        return _Counted(density(at, request), counts)

    return attrs.evolve(transition, sampler=transition.sampler.plain, density=counting)


class _Counted(LogDensity):
    """Another density, which counts the points where its remainder is evaluated: by whether for a gradient."""

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
