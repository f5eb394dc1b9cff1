"""Priors whose tilt is neither faint nor steep, and draws of them with chains long enough to follow their densities."""

from __future__ import annotations

from typing import NamedTuple

import attrs
import torch
from torch import Tensor

from hebm.densities import LogDensity, ValueAndGrad
from hebm.interfaces import (
    MCMC,
    Backbone,
    Draw,
    PriorLearner,
    PriorRecipe,
    Request,
    Sampler,
    StepNoise,
    Transition,
    root_of,
    walk,
)
from hebm.noise import Noise
from hebm.testing.prior_subjects import built
from hebm.testing.subjects import LinearTarget, contexts, points
from hebm.transitions import path_to

ROWS = 512
STEPS = 36
PACE = 0.2
"""h of a paced chain, in units of the variance of its density's Gaussian factor."""
LIVELY, STEEP = 1.2, 3.0
"""Root mean square of the slope of a tilt, in units of its density's width: wanted, and the most for a test."""
OCTAVES, HALVINGS = (-10.0, 3.0), 12
"""Range in which parameters are scaled, and steps of the search."""
PROBES, DIRECTIONS, DISTANCE = 64, 4, 0.01


# ---------------------------------------------------------------- a tilt that shows


def lively(recipe: PriorRecipe, backbone: Backbone) -> tuple[PriorLearner, Backbone] | None:
    """Return a prior in float64 whose tilt has a slope of about 1, and its backbone.

    The tilt of small perturbations is too faint to be seen in draws, and short chains cannot follow a steep one. So all
    parameters of the prior are scaled by one factor. None where no factor makes the tilt flat enough (normalised
    weights).
    """
    prior, twin = built(recipe, backbone, torch.float64)
    held = {id(parameter) for parameter in root_of(prior).parameters()}
    own = [p for p in prior.parameters() if p.requires_grad and p.is_floating_point() and id(p) not in held]
    low, high = OCTAVES
    scale(own, low)
    at, flat = low, _slopes(prior, twin)
    for _ in range(HALVINGS):
        low, high = (at, high) if _size(prior, twin, flat) < LIVELY else (low, at)
        scale(own, (low + high) / 2 - at)
        at = (low + high) / 2
    return None if _size(prior, twin, flat) > STEEP else (prior, twin)


def scale(parameters: list[torch.nn.Parameter], octaves: float) -> None:
    """Multiply parameters by a power of 2."""
    with torch.no_grad():
        for parameter in parameters:
            parameter.mul_(2.0**octaves)


def _size(prior: PriorLearner, backbone: Backbone, flat: list[Slope]) -> float:
    """Return the largest root mean square of the slopes; of those with an unknown Gaussian part, less that at f = 0."""
    pairs = zip(_slopes(prior, backbone), flat, strict=True)
    slopes = [here.value if here.of_tilt else here.value - there.value for here, there in pairs]
    return max((float(each.square().sum(1).mean().sqrt().nan_to_num(torch.inf)) for each in slopes), default=0.0)


class Slope(NamedTuple):
    """A density's gradient `(n, D)`, in units of its width; of the tilt alone, if its Gaussian factor is known."""

    value: Tensor
    of_tilt: bool


def _slopes(prior: PriorLearner, backbone: Backbone) -> list[Slope]:
    """Return the slopes of all chains' densities and of the prior's own at draws of the root."""
    at = start(backbone, PROBES)
    densities = [t.density(at, Request()) for t in prior.transitions(backbone) if isinstance(t, MCMC)]
    own = prior.density(backbone, at.context)
    slopes = []
    for density in (*densities, *(() if own is None else (own,))):
        known = density.factor() is not None
        gradient = density.value_and_grad(at.u).grad - (density.gaussian(at.u).grad if known else 0.0)
        slopes.append(Slope(gradient * width(density, at.u), known))
    return slopes


def width(density: LogDensity, u: Tensor) -> Tensor | float:
    """Return the deviation of a density's Gaussian factor, or a guess from its curvature near u `(n, D)`."""
    factor = density.factor()
    if factor is not None:
        return factor.std
    curvatures = []
    for i in range(DIRECTIONS):
        step = DISTANCE * torch.nn.functional.normalize(points(len(u), u.shape[1], u.dtype, f"curvature-{i}"), dim=1)
        ends = [density.value_and_grad(u + sign * step).grad for sign in (1, -1)]
        curvatures.append((ends[0] - ends[1]).norm(dim=1).median() / (2 * DISTANCE))
    return float(torch.stack(curvatures).max().clamp(min=1e-6).rsqrt())


def start(backbone: Backbone, rows: int) -> Draw:
    """Return standard normal u and contexts, as a root draws them."""
    dtype, dim = torch.float64, backbone.layout.dim
    return Draw(points(rows, dim, dtype, "start"), contexts(backbone.layout, rows, dtype))


# ---------------------------------------------------------------- chains that arrive


class Paced(LogDensity):
    """Another density, with a step size that suits it: unadjusted chains arrive and have little bias.

    Arguments:
        density: what is sampled.
        unit: h of the sampler at scale 1.
        u: where chains start, `(n, D)`.
    """

    def __init__(self, density: LogDensity, unit: float, u: Tensor) -> None:
        std = width(density, u)
        self.density, self.scale = density, PACE / unit * (std * std)
        self.modules, self.variant = density.modules, (density.variant, "paced")

    def gaussian(self, u: Tensor) -> ValueAndGrad:
        """Return the Gaussian term of the other density."""
        return self.density.gaussian(u)

    def remainder(self, u: Tensor) -> Tensor:
        """Return the remainder of the other density."""
        return self.density.remainder(u)

    def value_and_grad(self, u: Tensor) -> ValueAndGrad:
        """Return value and gradient of the other density."""
        return self.density.value_and_grad(u)


def paced(transition: Transition) -> Transition:
    """Return a transition whose chain, if it has one, takes steps that suit its density.

    A sampler that needs a Gaussian factor keeps its own step size, which is in units of the factor's deviation.
    """
    if not isinstance(transition, MCMC) or transition.sampler.needs_factor:
        return transition
    unit, target = step_size(transition.sampler), transition.density
    return attrs.evolve(transition, density=lambda at, request: Paced(target(at, request), unit, at.u))


def step_size(sampler: Sampler) -> float:
    """Return h of a sampler: the square of how far noise 1 moves a chain on a flat density."""
    u = torch.zeros(1, 2, dtype=torch.float64)
    noise = StepNoise(torch.ones_like(u), torch.full_like(u[:, 0], 0.5))
    flat = LinearTarget(torch.zeros(2, dtype=torch.float64))
    with torch.no_grad():
        moved = sampler.step(flat, sampler.init(flat, u), noise)[0][0]
    h = float(moved[0, 0]) ** 2
    return h if h > 0 else 1.0


def long_draws(prior: PriorLearner, backbone: Backbone, request: Request = Request()) -> tuple[Tensor, Draw]:
    """Return which coordinates the last transition moved `(D,)`, and draws with long chains.

    All coordinates count where none has moved, and for a prior that overrides `sample`, which runs its own chains.
    """
    noise = Noise(0, "long", dtype=torch.float64)
    request = attrs.evolve(request, steps=STEPS, context=contexts(backbone.layout, ROWS, torch.float64))
    everything = torch.ones(backbone.layout.dim, dtype=torch.bool)
    path = tuple(map(paced, path_to(prior.transitions(backbone))))
    if type(prior).sample is not PriorLearner.sample or not path:
        return everything, prior.sample(backbone, ROWS, noise, attrs.evolve(request, steps=4 * STEPS))
    *_, before, after = [draw for _, draw in walk(prior, backbone, ROWS, noise, request, path)]
    moved = (before.u != after.u).any(0)
    return (moved if bool(moved.any()) else everything), after
