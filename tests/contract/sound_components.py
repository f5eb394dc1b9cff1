"""Small components that keep all promises, from which wrong ones derive, and what their tests share."""

from typing import NamedTuple

import attrs
import pytest
import torch
from catching import own_cases
from torch import nn

from hebm.interfaces import (
    MCMC,
    BackboneRecipe,
    Draw,
    EnergyFn,
    EnergyRecipe,
    Info,
    Loss,
    PriorLearner,
    PriorRecipe,
    Request,
    Sampler,
)
from hebm.latents import LatentLayout
from hebm.testing import ConformanceError, cases

SPATIAL = LatentLayout(((2, 2, 2), (1, 4, 4)), context=(3,))


class SoundEnergy(EnergyFn):
    def __init__(self, layout, logits):
        super().__init__()
        self.layout, self.logits = layout, logits
        self.net = nn.Sequential(nn.Linear(layout.dim, 8), nn.SiLU(), nn.Linear(8, logits))

    def forward(self, latents, t=None):
        return self.net(latents.flat_z).unsqueeze(1)


class Place(NamedTuple):
    u: torch.Tensor


@attrs.frozen
class SoundULA(Sampler):
    steps: int = 4
    h: float = 0.1

    def init(self, density, u):
        return Place(u)

    def move(self, density, u, noise, drift=0.5):
        value, grad = density.value_and_grad(u)
        h = self.h * density.scale
        root = h.sqrt() if isinstance(h, torch.Tensor) else h**0.5
        return u + drift * h * grad + root * noise.normal, Info(value, grad)

    def step(self, density, state, noise):
        u, info = self.move(density, state.u, noise)
        return Place(u), info


class Evaluated(NamedTuple):
    u: torch.Tensor
    value: torch.Tensor
    grad: torch.Tensor


@attrs.frozen
class SoundMALA(Sampler):
    """Langevin proposals, accepted by p(u') q(u|u') / (p(u) q(u'|u))."""

    draws = ("normal", "uniform")

    steps: int = 4
    h: float = 0.1

    def init(self, density, u):
        return Evaluated(u, *density.value_and_grad(u))

    def log_ratio(self, state, new, h, xi):
        backward = (state.u - new.u - 0.5 * h * new.grad).square().sum(1) / (h * torch.ones_like(xi[:, :1])).squeeze(1)
        return new.value - state.value + 0.5 * (xi.square().sum(1) - backward)

    def proposed(self, density, state, noise):
        h, xi = self.h * density.scale, noise.normal
        new = self.init(density, state.u + 0.5 * h * state.grad + (h * torch.ones_like(xi)).sqrt() * xi)
        accept = noise.uniform.log() < self.log_ratio(state, new, h, xi)
        return new, accept & new.u.isfinite().all(1) & new.grad.isfinite().all(1)

    def step(self, density, state, noise):
        new, accept = self.proposed(density, state, noise)
        rows = [accept.view(-1, *[1] * (part.ndim - 1)) for part in state]
        moved = Evaluated(*(torch.where(*both) for both in zip(rows, new, state, strict=True)))
        return moved, Info(moved.value, moved.grad, accept.to(moved.u.dtype))


class Root(PriorLearner):
    def __init__(self, dim):
        super().__init__()
        self.root, self.dim = None, dim

    def sample(self, backbone, n, noise, request=Request()):
        return Draw(noise.normal(n, self.dim)).fixed_as(request.fixed)


class SoundPrior(PriorLearner):
    """A tilt by a small net, with a short chain."""

    def __init__(self, backbone):
        super().__init__()
        self.root, self.energy = Root(backbone.layout.dim), SoundEnergy(backbone.layout, 1)

    def tilt(self, latents):
        return self.energy(latents).squeeze(2)

    def transitions(self, backbone):
        return (self._chain(backbone, "prior"),)

    def _chain(self, backbone, name, **options):
        return MCMC(
            name=name, sampler=SoundULA(), density=lambda at, request: self.density(backbone, at.context), **options
        )

    def objective(self, backbone, posterior, noise, progress, labels=None):
        u = self.sample(backbone, len(posterior.latents.u), noise).u
        negative = backbone.latents(u).detach()
        return Loss(self.tilt(negative).mean() - self.tilt(posterior.latents).mean(), {}, negative)


class ContextRoot(Root):
    """Draws a context as well as u."""

    context = (3,)

    def sample(self, backbone, n, noise, request=Request()):
        context = noise.derive("context").normal(n, 3) if request.context is None else request.context
        return Draw(super().sample(backbone, n, noise, request).u, context)

    def context_bound(self, context, noise):
        return context.sum(1)

    context_weight = context_bound


class ContextPrior(SoundPrior):
    """Its chain holds the context of the base's draw, its negatives that of the positives."""

    def __init__(self, backbone):
        super().__init__(backbone)
        self.root = ContextRoot(backbone.layout.dim)

    def objective(self, backbone, posterior, noise, progress, labels=None):
        positive = posterior.latents
        u = self.sample(backbone, len(positive), noise, Request(context=positive.context)).u
        negative = backbone.latents(u, positive.context).detach()
        return Loss(self.tilt(negative).mean() - self.tilt(positive).mean(), {}, negative)


# ---------------------------------------------------------------- recipes of any class


@attrs.frozen
class Backbones(BackboneRecipe):
    kind: type

    def build(self, images):
        return self.kind()


@attrs.frozen
class Energies(EnergyRecipe):
    kind: type

    def build(self, layout, logits=1, levels=1):
        return self.kind(layout, logits)


@attrs.frozen
class Priors(PriorRecipe):
    kind: type

    def build(self, backbone):
        return self.kind(backbone)


# ---------------------------------------------------------------- checks


def expect_failing(broken, name, **options):
    """The check of this name fails, and says how to fix it; others may fail, too."""
    (case,) = [case for case in cases(broken, **options) if case.name == name]
    with pytest.raises(ConformanceError, match=r"expected: .*\n *found: .*\n *fix: "):
        case()


def uncontrolled(sound, controls):
    """The checks of a component that no wrong example fails."""
    return {case.name for case in own_cases(sound)} - {name for _, name in controls}
