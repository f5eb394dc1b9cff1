"""The smallest useful learned prior: an energy over the latents, learned with short chains. Replace f by your own."""

from __future__ import annotations

import torch
from hebm import ULA, Gaussian, option, recipe
from hebm.interfaces import (
    MCMC,
    Backbone,
    Latents,
    Loss,
    Noise,
    Posterior,
    PriorLearner,
    PriorRecipe,
    Progress,
    Request,
    Sampler,
    Transition,
    build_root,
    seen_by,
)
from torch import Tensor, nn


class Quadratic(nn.Module):
    """f(u) = a·u − ½ uᵀ diag(b) u, with a and b > −1 `(D,)`, both 0 at the start. Trained are a and log(1 + b)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.a, self.log_precision = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, u: Tensor) -> Tensor:
        """Return the terms of f, `(B, D)`."""
        return self.a * u - 0.5 * self.log_precision.expm1() * u.square()


class QuadraticTiltPrior(PriorLearner):
    """log p(u) = f(u) − |u|²/2 − log Z, sampled by one chain that starts at the root's draw.

    Arguments:
        root: draws u ~ N(0, I) and the context.
        dim: D, the dimension of u.
        sampler: runs the chain, in training and after it.
    """

    def __init__(self, root: PriorLearner, dim: int, sampler: Sampler) -> None:
        super().__init__()
        self.root, self.quadratic, self.sampler = root, Quadratic(dim), sampler

    def tilt(self, latents: Latents) -> Tensor:
        """Return f, `(B, 1)`."""
        return self.quadratic(latents.u).sum(1, keepdim=True)

    def transitions(self, backbone: Backbone) -> tuple[Transition, ...]:
        """List one chain on f(u) − |u|²/2."""
        target = lambda at, request: self.density(backbone, at.context)  # noqa: E731
        return (MCMC(name="prior", sampler=self.sampler, density=target),)

    def objective(
        self, backbone: Backbone, posterior: Posterior, noise: Noise, progress: Progress, labels: Tensor | None = None
    ) -> Loss:
        """Return E[f(u⁻)] − E[f(u⁺)], u⁻ drawn in the contexts of u⁺."""
        positive = posterior.latents
        draw = self.sample(backbone, len(positive), noise, Request(context=positive.context))
        with torch.no_grad():
            negative = seen_by(self, backbone, draw.u, draw.context).detach()
        loss = self.tilt(negative).mean() - self.tilt(positive).mean()
        return Loss(loss, {"gain": -loss.detach()}, negative)


@recipe
class QuadraticTilt(PriorRecipe):
    """log p(u) = a·u − ½ uᵀ diag(b) u − |u|²/2 − log Z: a Gaussian with a learned mean and variance per dimension.

    It shows how much correcting each dimension's mean and scale gains.
    """

    sampler: Sampler = option(
        factory=lambda: ULA(steps=20, step_size=0.1), doc="the short-run chain, in training and after it"
    )
    root: PriorRecipe = option(factory=Gaussian, doc="the root that is tilted")

    def build(self, backbone: Backbone) -> QuadraticTiltPrior:
        """Build the prior. Raises `ConfigError` if the root does not fit the backbone."""
        return QuadraticTiltPrior(build_root(self.root, backbone), backbone.layout.dim, self.sampler)
