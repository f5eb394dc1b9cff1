"""The recipe of the diffusion prior over pseudo-inputs."""

from __future__ import annotations

import attrs

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.interfaces import Backbone, PriorRecipe
from hebm_plugins.priors.dvp.prior import DVPPrior
from hebm_plugins.priors.dvp.process import Diffusion
from hebm_plugins.priors.dvp.schedule import SCHEDULES
from hebm_plugins.priors.dvp.unet import GROUPS, UNet


@recipe
class DVPDiffusion(PriorRecipe):
    """The root that draws a pseudo-input by diffusion (DVP-VAE, arXiv 2412.01373, §3; VDM, arXiv 2107.00630).

    It is a term of the ELBO: it learns together with the backbone (scheme two-phase, phase 1). Other priors can have it
    as their root. It is sampled by a chain of `steps`; the continuous-time bound belongs to another model, T → ∞.
    Every step of a draw clips x̂ to [−1, 1], the range of the pseudo-inputs dct and downsample; linear may leave it.
    """

    steps: int = option(25, doc="T, of draws and of the chain's bound", low=1)
    schedule: str = option("linear", doc="γ(t)", choices=tuple(SCHEDULES))
    gamma_min: float = option(-6.0, doc="γ(0) = −log SNR of z_0")
    gamma_max: float = option(7.0, doc="γ(1)")
    learn_gamma_min: bool = option(False, doc="train γ_min")
    time: str = option("continuous", doc="what is trained: t uniform, or t = k/T", choices=("continuous", "discrete"))
    prediction: str = option("noise", doc="what the net gives, ε̂ or v̂", choices=("noise", "velocity"))
    stable: bool = option(False, doc="times of a batch in strata: t_i = frac(u + i/B)")
    temperature: float = option(1.0, doc="factor of the noise of a draw's steps", low=0)
    channels: int = option(16, doc="of the net's features, a multiple of 16", low=GROUPS)
    blocks: int = option(2, doc="residual blocks on each side of the net", low=1, high=1000)
    dropout: float = option(0.0, doc="of the net's features in training", low=0, high=0.99)

    def build(self, backbone: Backbone) -> DVPPrior:
        """Raises `ConfigError` for a backbone without a context of three dimensions, and sizes that do not fit."""
        context = backbone.layout.context
        if context is None or len(context) != 3:
            raise ConfigError(
                f'prior: "dvp" draws a context (C, S, S), the backbone expects {context}; use backbone.type = "dvp" '
                'with a pseudo_input, or prior.type = "gaussian"'
            )
        if self.channels % GROUPS:
            raise ConfigError(f"prior.channels = {self.channels}: give a multiple of {GROUPS}")
        if self.gamma_min >= self.gamma_max:
            raise ConfigError(f"prior.gamma_min = {self.gamma_min} must be below gamma_max = {self.gamma_max}")
        net = UNet(context[0], self.channels, self.blocks, self.dropout)
        schedule = SCHEDULES[self.schedule](self.gamma_min, self.gamma_max, self.learn_gamma_min)
        diffusion = Diffusion(net, schedule, self.steps, self.prediction == "velocity", self.time == "discrete")
        return DVPPrior(backbone.layout, diffusion, self.stable, self.temperature, self._of_diffusion())

    def _of_diffusion(self) -> DVPDiffusion:
        """Return this recipe with every key at its default that does not change what the diffusion's weights mean.

        `stable` and `dropout` matter in training only, `temperature` in a draw only.
        """
        return attrs.evolve(self, stable=False, dropout=0.0, temperature=1.0)  # type: ignore[misc]  # recipes are attrs classes
