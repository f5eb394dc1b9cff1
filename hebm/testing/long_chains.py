"""Scale the tilt of a prior, and draw with chains that are long enough to follow its density."""

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
"""Step size h of a paced chain, in units of the variance of its density's Gaussian factor."""
LIVELY, STEEP = 1.2, 3.0
"""Root mean square slope of a tilt, in units of 1 / (width of its density): target, and the largest for a test."""
OCTAVES, HALVINGS = (-10.0, 3.0), 12
"""Range of the powers of 2 that scale parameters, and steps of the bisection."""
PROBES, DIRECTIONS, DISTANCE = 64, 4, 0.01


# ---------------------------------------------------------------- the scaled tilt


def lively(recipe: PriorRecipe, backbone: Backbone) -> tuple[PriorLearner, Backbone] | None:
    """Return a prior in float64 whose tilt has a slope of about 1, and its backbone.

    Draws do not show the tilt of slightly perturbed parameters, and short chains cannot follow a steep tilt. This
    function therefore scales all parameters of the prior by one factor. It returns None if no factor makes the tilt
    flat enough, for example with normalised weights.
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
    """Return the largest root mean square slope, minus the slope at f = 0 if the Gaussian part is unknown."""
    pairs = zip(_slopes(prior, backbone), flat, strict=True)
    slopes = [here.value if here.of_tilt else here.value - there.value for here, there in pairs]
    return max((float(each.square().sum(1).mean().sqrt().nan_to_num(torch.inf)) for each in slopes), default=0.0)


class Slope(NamedTuple):
    """A density's gradient `(n, D)` times its width; only the tilt's part if the Gaussian factor is known."""

    value: Tensor
    of_tilt: bool


def _slopes(prior: PriorLearner, backbone: Backbone) -> list[Slope]:
    """Return the slopes of all chains' densities and of the prior's density at draws of the root."""
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
    """Return the standard deviation of a density's Gaussian factor, or an estimate from the curvature at u `(n, D)`."""
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
    """Return standard normal u and contexts, like the draws of a root."""
    dtype, dim = torch.float64, backbone.layout.dim
    return Draw(points(rows, dim, dtype, "start"), contexts(backbone.layout, rows, dtype))


# ---------------------------------------------------------------- long chains


class Paced(LogDensity):
    """A density whose scale gives chains a suitable step size: they converge, and unadjusted ones have little bias.

    Arguments:
        density: the density to sample.
        unit: h of the sampler at scale 1.
        u: the starts of the chains, `(n, D)`.
    """

    def __init__(self, density: LogDensity, unit: float, u: Tensor) -> None:
        std = width(density, u)
        self.density, self.scale = density, PACE / unit * (std * std)
        self.modules, self.variant = density.modules, (density.variant, "paced")

    def gaussian(self, u: Tensor) -> ValueAndGrad:
        """Return the Gaussian term of the density."""
        return self.density.gaussian(u)

    def remainder(self, u: Tensor) -> Tensor:
        """Return the remainder of the density."""
        return self.density.remainder(u)

    def value_and_grad(self, u: Tensor) -> ValueAndGrad:
        """Return value and gradient of the density."""
        return self.density.value_and_grad(u)


def paced(transition: Transition) -> Transition:
    """Return a transition whose chain, if it has one, uses a step size that suits its density.

    A sampler that needs a Gaussian factor keeps its step size, which is in units of the factor's variance.
    """
    if not isinstance(transition, MCMC) or transition.sampler.needs_factor:
        return transition
    unit, target = step_size(transition.sampler), transition.density
    return attrs.evolve(transition, density=lambda at, request: Paced(target(at, request), unit, at.u))


def step_size(sampler: Sampler) -> float:
    """Return h of a sampler, the squared displacement by noise 1 on a flat density."""
    u = torch.zeros(1, 2, dtype=torch.float64)
    noise = StepNoise(torch.ones_like(u), torch.full_like(u[:, 0], 0.5))
    flat = LinearTarget(torch.zeros(2, dtype=torch.float64))
    with torch.no_grad():
        moved = sampler.step(flat, sampler.init(flat, u), noise)[0][0]
    h = float(moved[0, 0]) ** 2
    return h if h > 0 else 1.0


def long_draws(prior: PriorLearner, backbone: Backbone, request: Request = Request()) -> tuple[Tensor, Draw]:
    """Return the mask of coordinates that the last transition moved, `(D,)`, and draws with long chains.

    The mask has all coordinates if none moved, or if the prior overrides `sample` and runs other chains.
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
