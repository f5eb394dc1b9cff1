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
    """p(u, c) = N(u; 0, I) p(c), with p(c) a diffusion over the pseudo-input c of DVP-VAE (arXiv 2412.01373, sec. 3).

    z_t = α_t c + σ_t ε with γ(t) = −log SNR(t), as in VDM (arXiv 2107.00630). The loss is a term of the ELBO, so the
    diffusion is trained together with the backbone (scheme two-phase, phase 1). Other priors can have it as their root.

    A draw takes `steps` steps. The continuous-time bound is that of a different model, with T → ∞. Every step of a draw
    clips x̂ to [−1, 1], the range of the pseudo-inputs `dct` and `downsample`. Those of `linear` may lie outside.

    Example:
        >>> from hebm import DVP, ImageSpec, Noise
        >>> backbone = DVP().build(ImageSpec(1, 28, 28))
        >>> prior = DVPDiffusion(steps=5).build(backbone)
        >>> prior.sample(backbone, 2, Noise(0)).context.shape
        torch.Size([2, 1, 7, 7])
    """

    steps: int = option(25, doc="T, the number of steps of a draw and of the chain's bound", low=1)
    schedule: str = option("linear", doc="form of γ(t) between gamma_min and gamma_max", choices=tuple(SCHEDULES))
    gamma_min: float = option(-6.0, doc="γ(0) = −log SNR of z_0")
    gamma_max: float = option(7.0, doc="γ(1) = −log SNR of z_1")
    learn_gamma_min: bool = option(False, doc="train γ(0)")
    time: str = option(
        "continuous",
        doc="times in training: uniform on [0, 1], or multiples of 1/T",
        choices=("continuous", "discrete"),
    )
    prediction: str = option("noise", doc="output of the net, ε̂ or v̂", choices=("noise", "velocity"))
    stable: bool = option(False, doc="stratify the times of a batch: t_i = frac(u + i/B)")
    temperature: float = option(1.0, doc="factor of the noise that each step of a draw adds", low=0)
    channels: int = option(16, doc="channels of the net's features, a multiple of 16", low=GROUPS)
    blocks: int = option(2, doc="residual blocks on each side of the net", low=1, high=1000)
    dropout: float = option(0.0, doc="dropout rate of the net's features in training", low=0, high=0.99)

    def build(self, backbone: Backbone) -> DVPPrior:
        """Build the prior. Raises `ConfigError` if the backbone's context is not `(C, S, S)`, or for an invalid key."""
        context = backbone.layout.context
        if context is None or len(context) != 3 or context[1] != context[2]:
            raise ConfigError(
                f'prior: "dvp" draws a context of shape (C, S, S), but this backbone expects {context or "none"}; use '
                'backbone.type = "dvp" with a pseudo_input, or prior.type = "gaussian"'
            )
        if self.channels % GROUPS:
            raise ConfigError(
                f"prior.channels = {self.channels} is not a multiple of {GROUPS}; use {GROUPS}, {2 * GROUPS}, …"
            )
        if self.gamma_min >= self.gamma_max:
            raise ConfigError(
                f"prior.gamma_min = {self.gamma_min} must be below gamma_max = {self.gamma_max}; lower gamma_min or "
                "raise gamma_max"
            )
        net = UNet(context[0], self.channels, self.blocks, self.dropout)
        schedule = SCHEDULES[self.schedule](self.gamma_min, self.gamma_max, self.learn_gamma_min)
        diffusion = Diffusion(net, schedule, self.steps, self.prediction == "velocity", self.time == "discrete")
        return DVPPrior(backbone.layout, diffusion, self.stable, self.temperature, self._of_diffusion())

    def _of_diffusion(self) -> DVPDiffusion:
        """Return this recipe without the settings that do not change what the trained weights mean.

        `stable` and `dropout` apply only in training, and `temperature` only in draws; all three get their defaults.
        """
        return attrs.evolve(self, stable=False, dropout=0.0, temperature=1.0)  # type: ignore[misc]  # recipes are attrs classes
