"""A Gaussian prior over u with learned mean and variance, by maximum likelihood: the smallest learned prior."""

from __future__ import annotations

import math

import torch
from hebm.config.recipe import option, recipe
from hebm.densities import TiltedPrior
from hebm.errors import ConfigError
from hebm.gaussian import Gaussian
from hebm.interfaces import PLAIN, Backbone, Draw, Loss, PriorLearner, PriorRecipe, Progress, Request, Stage, check_base
from hebm.latents import LatentLayout, Latents, Posterior
from hebm.noise import Noise
from torch import Tensor, nn
from torch.nn import functional as F


class Quadratic(nn.Module):
    """a `(D,)` and 1 + b = floor + softplus(raw) `(D,)`; a = b = 0 at the start."""

    def __init__(self, dim: int, floor: float) -> None:
        super().__init__()
        self.floor, self.a = floor, nn.Parameter(torch.zeros(dim))
        self.raw = nn.Parameter(torch.full((dim,), math.log(math.expm1(1 - floor))))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Mean m = a / (1 + b) and precision 1 + b of the tilted Gaussian, each `(D,)`."""
        precision = self.floor + F.softplus(self.raw)
        return self.a / precision, precision


class QuadraticTiltPrior(PriorLearner):
    """f(u) = a·u − ½ uᵀ diag(b) u − log Z, b > −1, hence p(u) = N(m, diag(v)), v = 1 / (1 + b), m = v a: drawn exactly.

    Arguments:
        base: a root, u ~ N(0, I) given its context.
        layout, floor: of the backbone; least precision 1 + b.
    """

    def __init__(self, base: PriorLearner, layout: LatentLayout, floor: float) -> None:
        super().__init__()
        self.base, self.layout, self.quadratic = base, layout, Quadratic(layout.dim, floor)

    def tilt(self, latents: Latents) -> Tensor:
        """f = log N(u; m, v) − log N(u; 0, I), the part of each layer, `(B, L)`."""
        mean, precision = self.quadratic()
        f = 0.5 * (precision.log() - precision * (latents.u - mean).square() + latents.u.square())
        return torch.stack([part.flatten(1).sum(1) for part in self.layout.split(f)], dim=1)

    def density(self, backbone: Backbone, context: Tensor | None = None, labels: Tensor | None = None) -> TiltedPrior:
        """f(u) − |u|²/2, for posterior chains."""
        return TiltedPrior(backbone, self.tilt, context)

    @torch.no_grad()
    def sample(self, backbone: Backbone, n: int, noise: Noise, request: Request = PLAIN) -> Draw:
        """m + √v u₀ for a draw u₀ of the base: there is no chain to lengthen or observe, and u has no correlations."""
        start = self.base.sample(backbone, n, noise.derive("base"), request)
        mean, precision = self.quadratic()
        u = mean + start.u / precision.sqrt()
        return Draw(u if request.hold is None else request.hold.apply(u), start.context)

    def objective(
        self, backbone: Backbone, posterior: Posterior, noise: Noise, progress: Progress, labels: Tensor | None = None
    ) -> Loss:
        """−E[f(u⁺)] in nats per image: f is normalised, so no negative phase is needed; schemes use the draws."""
        loss = -self.tilt(posterior.latents).sum(1).mean()
        context = posterior.latents.context
        u = self.sample(backbone, len(posterior.latents.u), noise, Request(labels, context)).u
        return Loss(loss, {"gain": -loss.detach()}, backbone.latents(u, context).detach())

    def stages(self) -> tuple[Stage, ...]:
        """The base's, then a and b."""
        return (*super().stages(), Stage("prior", self.quadratic, self.objective))


@recipe
class QuadraticTilt(PriorRecipe):
    """N(m, diag(v)) over u, m and v learned: what a prior gains by mending each dimension's mean and scale alone."""

    floor: float = option(0.01, doc="least precision: no learned variance exceeds 1 / floor", above=0, high=0.9)
    base: PriorRecipe = option(factory=Gaussian, doc="the root that is tilted, with u ~ N(0, I)")

    def build(self, backbone: Backbone) -> QuadraticTiltPrior:
        """Raises `ConfigError` if the base is no root, or does not draw the context that the backbone expects."""
        base = self.base.build(backbone)
        check_base(base, backbone.layout)
        if base.base is not None:
            raise ConfigError('prior.base: quadratic-tilt draws exactly from roots only; use base = "gaussian"')
        return QuadraticTiltPrior(base, backbone.layout, self.floor)
