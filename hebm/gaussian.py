"""The Gaussian prior: the root that other priors tilt."""

from __future__ import annotations

from torch import Tensor

from hebm.config.recipes import recipe
from hebm.densities import LogDensity, TiltedPrior
from hebm.draws import Draw, Request
from hebm.interfaces import Backbone, PriorLearner, PriorRecipe, check_context
from hebm.latents import LatentLayout
from hebm.noise import Noise
from hebm.tilts import Tilt


class GaussianPrior(PriorLearner):
    """u ~ N(0, I), so that z = T(u) follows the backbone's own prior. It has no parameters.

    Arguments:
        layout: the backbone's layout.
    """

    def __init__(self, layout: LatentLayout) -> None:
        super().__init__()
        self.root, self.layout = None, layout

    def sample(self, backbone: Backbone, n: int, noise: Noise, request: Request = Request()) -> Draw:
        """Return exact draws u ~ N(0, I), whatever the context. Settings of chains in the request have no effect."""
        return Draw(noise.normal(n, self.layout.dim), request.context).fixed_as(request.fixed)

    def density(self, backbone: Backbone, context: Tensor | None = None, labels: Tensor | None = None) -> LogDensity:
        """Return log p(u) = −|u|²/2."""
        return TiltedPrior(backbone, Tilt(lambda latents: 0 * latents.u), context)


@recipe
class Gaussian(PriorRecipe):
    """N(0, I) over u: the baseline, and the root of other priors."""

    def build(self, backbone: Backbone) -> GaussianPrior:
        """Build the prior. Raises `ConfigError` if the backbone expects a context."""
        prior = GaussianPrior(backbone.layout)
        check_context(prior, backbone.layout, "prior")
        return prior
