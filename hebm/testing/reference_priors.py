"""Small priors and a sampler with which metrics, analyses and schemes are checked."""

from __future__ import annotations

from typing import NamedTuple

import attrs
import torch
from torch import Tensor, nn
from typing_extensions import override

from hebm.densities import LogDensity, TiltedPrior
from hebm.draws import Draw, Request
from hebm.gaussian import GaussianPrior
from hebm.interfaces import MCMC, Backbone, Loss, PriorLearner, Progress, Sampler, Transition, seen_by
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.noise import Noise
from hebm.samplers import Info, StepNoise, drawn
from hebm.tilts import Tilt


class Point(NamedTuple):
    """The state of an unadjusted chain: u `(B, D)`."""

    u: Tensor


@attrs.frozen
class ReferenceSampler(Sampler):
    """u ← u + (h/2) ∇log p(u) + √h ξ with h = 0.1."""

    steps: int = 3

    def init(self, density: LogDensity, u: Tensor) -> Point:
        """Start a chain at u."""
        return Point(u)

    @override
    def step(self, density: LogDensity, state: Point, noise: StepNoise) -> tuple[Point, Info]:
        value, grad = density.value_and_grad(state.u)
        return Point(state.u + 0.05 * grad + 0.1**0.5 * drawn(noise.normal)), Info(value, grad)


class ContextRoot(GaussianPrior):
    """u ~ N(0, I) and c ~ N(0, I)."""

    @property
    def context(self) -> tuple[int, ...] | None:
        """The shape of the context."""
        return self.layout.context

    def sample(self, backbone: Backbone, n: int, noise: Noise, request: Request = Request()) -> Draw:
        """Draw u, and the context unless it is given."""
        drawn_context = noise.derive("context").normal(n, *(self.context or ()))
        context = drawn_context if request.context is None else request.context
        return Draw(noise.normal(n, self.layout.dim), context).fixed_as(request.fixed)

    def context_bound(self, context: Tensor, noise: Noise) -> Tensor:
        """Return log N(c; 0, I) up to a constant, `(B,)`."""
        return -0.5 * context.flatten(1).square().sum(1)

    def context_weight(self, context: Tensor, noise: Noise) -> Tensor:
        """Return log N(c; 0, I) up to a constant, `(B,)`."""
        return self.context_bound(context, noise)


class ReferencePrior(PriorLearner):
    """log p(u) = Σ_s f_s(z) + a_yᵀz − |u|²/2 − log Z, with f_s linear in z and one chain for each s.

    Arguments:
        layout: layout of the backbone.
        classes: number of labels y; 0 for a prior without labels, which has a = 0.
        stages: number of f_s.
    """

    def __init__(self, layout: LatentLayout, classes: int = 0, stages: int = 2) -> None:
        super().__init__()
        self.root = GaussianPrior(layout) if layout.context is None else ContextRoot(layout)
        self.energies = nn.ModuleList(nn.Linear(layout.dim, len(layout)) for _ in range(stages))
        self.shifts = nn.Embedding(classes, layout.dim) if classes else None
        self.layers = len(layout)

    @property
    def labelled(self) -> bool:
        """Whether draws depend on labels."""
        return self.shifts is not None

    def check(self, images: object) -> None:
        """Accept images of any kind (labels need no check)."""

    def tilt(self, latents: Latents) -> Tensor:
        """Return Σ_s f_s per layer, `(B, L)`."""
        return self._up_to(len(self.energies), latents)

    def _up_to(self, stages: int, latents: Latents, labels: Tensor | None = None) -> Tensor:
        """Return Σ_{s < stages} f_s, plus a_yᵀz if labels are given, per layer `(B, L)`."""
        f = torch.zeros_like(latents.u[:, : self.layers])
        for energy in list(self.energies)[:stages]:
            f = f + energy(latents.flat_z)
        if labels is None or self.shifts is None:
            return f
        linear: Tensor = (self.shifts(labels) * latents.flat_z).sum(1, keepdim=True)
        return f + linear / self.layers

    def density(self, backbone: Backbone, context: Tensor | None = None, labels: Tensor | None = None) -> LogDensity:
        """Return the density log p(u) = f(T(u)) − |u|²/2 − log Z."""
        return self._density(backbone, len(self.energies), context, labels)

    def _density(self, backbone: Backbone, stages: int, context: Tensor | None, labels: Tensor | None) -> LogDensity:
        return TiltedPrior(backbone, Tilt(lambda z: self._up_to(stages, z, labels), (self,)), context)

    def transitions(self, backbone: Backbone) -> tuple[Transition, ...]:
        """List one chain for each stage, which samples the product of all stages up to it."""
        return tuple(self._chain(backbone, s) for s in range(len(self.energies)))

    def _chain(self, backbone: Backbone, s: int) -> Transition:
        energy = self.energies[s]
        return MCMC(
            name=f"stage {s + 1}",
            key=("chain", s),
            sampler=ReferenceSampler(),
            density=lambda at, request: self._density(backbone, s + 1, at.context, request.labels),
            ratio=lambda labels: Tilt(lambda latents: energy(latents.flat_z), (energy,)),
        )

    def objective(
        self, backbone: Backbone, posterior: Posterior, noise: Noise, progress: Progress, labels: Tensor | None = None
    ) -> Loss:
        """Return E[f(z⁻)] − E[f(z⁺)] + E[f(z⁺)²] / 100."""
        positive = posterior.latents
        draw = self.sample(backbone, len(positive), noise, Request(context=positive.context))
        negative = seen_by(self, backbone, draw.u, draw.context).detach()
        high, low = self.tilt(positive), self.tilt(negative)
        return Loss((low.sum(1) - high.sum(1)).mean() + high.square().mean() / 100, negative=negative)
