"""The root of all tilts: the backbone's own prior."""

from __future__ import annotations

import torch
from torch import Tensor

from hebm.config.recipe import recipe
from hebm.densities import LogDensity, TiltedPrior
from hebm.interfaces import PLAIN, Backbone, Draw, PriorLearner, PriorRecipe, Request, require_context
from hebm.latents import LatentLayout, Latents
from hebm.noise import Noise


class GaussianPrior(PriorLearner):
    """u ~ N(0, I): z = T(u) has the backbone's own prior. Nothing to train.

    Arguments:
        layout: of the backbone.
    """

    def __init__(self, layout: LatentLayout) -> None:
        super().__init__()
        self.base = None
        self.layout = layout

    def sample(self, backbone: Backbone, n: int, noise: Noise, request: Request = PLAIN) -> Draw:
        """u ~ N(0, I), exact, whatever the context: there is no chain to lengthen or observe."""
        u = noise.normal(n, self.layout.dim)
        return Draw(u if request.hold is None else request.hold.apply(u), request.context)

    def tilt(self, latents: Latents) -> Tensor:
        """f = 0, `(B, 1)`."""
        return torch.zeros_like(latents.u[:, :1])

    def density(self, backbone: Backbone, context: Tensor | None = None, labels: Tensor | None = None) -> LogDensity:
        """log p(u) = −|u|²/2."""
        return TiltedPrior(backbone, lambda latents: 0 * latents.u, context)


@recipe
class Gaussian(PriorRecipe):
    """N(0, I) over u: the baseline, and the base of every tilt."""

    def build(self, backbone: Backbone) -> GaussianPrior:
        """Checks that the backbone asks for no context."""
        prior = GaussianPrior(backbone.layout)
        require_context(prior, backbone.layout, "prior")
        return prior
