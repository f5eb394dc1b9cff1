"""The recipe of the diffusion prior."""

from __future__ import annotations

import torch

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.gaussian import Gaussian
from hebm.interfaces import Backbone, EnergyRecipe, PriorRecipe, Sampler, build_energy, build_root
from hebm_plugins.energies.mlp_time import MLPTime
from hebm_plugins.priors.diffusion.prior import DiffusionPrior, Levels
from hebm_plugins.priors.diffusion.schedule import Schedule, schedule
from hebm_plugins.priors.labels import couple, logits_of
from hebm_plugins.samplers.ula import ULA


@recipe
class Diffusion(PriorRecipe):
    """The diffusion-learned EBM prior (arXiv 2405.13910): T conditional energies, from noise to the posterior.

    Where the paper and its published code disagree, the default is the code's:

    | key | official | paper |
    |---|---|---|
    | `energy_scale` | f / b_t in density and loss, b_t = step_size (σ̄_t / σ̄_0) σ²_{t+1}; step b_t | f; step σ²_{t+1} |
    | `last_level` | no localising term at t = T − 1 | it is kept |
    | `first_level` | level 0 is the posterior's u with noise 0.01 | it is clean |

    `sampler.step_size` is in units of these steps: 1 is the published one, about 0.2 suits `energy_scale = "paper"`.
    With labels (`classes`, or `attributes`) a layer's net has a logit per class, f_i being their logsumexp (at the
    scale of the density), and the cross-entropy of the labels is added to the loss; sampling with labels takes the
    logits asked for.
    """

    levels: int = option(3, doc="T, conditional models from noise to the posterior", low=1, high=1000)
    energy: EnergyRecipe = option(factory=MLPTime, doc="f, of all levels")
    sampler: Sampler = option(factory=lambda: ULA(steps=50, step_size=1.0), doc="the short-run chain of each level")
    step_size: float = option(3e-5, doc="of which b_t is a multiple, in energy_scale = official", above=0)
    energy_scale: str = option("official", doc="what divides f", choices=("official", "paper"))
    last_level: str = option("official", doc="the localising term at t = T - 1", choices=("official", "paper"))
    first_level: str = option("official", doc="noise of level 0", choices=("official", "paper"))
    root: PriorRecipe = option(factory=Gaussian, doc="draws u_T", renamed_from="base")
    classes: int = option(0, doc="of the data's label; 0 = no class labels", low=0)
    attributes: int = option(0, doc="of the data, each at a layer of its own; 0 = none", low=0)
    label_layers: tuple[int, ...] = option((), doc="that carry labels, 0 = top; empty: all, or the uppermost", low=0)
    label_levels: str = option("first", doc="that labels guide: t = 0 (paper) or all", choices=("first", "every"))
    label_weight: float = option(1.0, doc="of the labels' cross-entropy", low=0)
    folded_chains: bool = option(
        True, doc="spectral norm and time embedding once a chain; the published code: at every step, in training too"
    )

    def build(self, backbone: Backbone) -> DiffusionPrior:
        """Build the prior. Raises `ConfigError` for a sampler, labels, an energy or a root that do not fit."""
        self._check_sampler()
        root = build_root(self.root, backbone)
        coefficients = self._levels(schedule(self.levels))
        energy = build_energy(
            self.energy,
            backbone.layout,
            logits_of(self.classes, self.attributes),
            self.levels,
            sees=("features",),
            instead='use prior.energy.type = "feature-mlp", or prior.type = "multi-stage"',
        )
        coupling = couple(self.classes, self.attributes, self.label_layers, energy.count(backbone.layout))
        return DiffusionPrior(
            root=root,
            energy=energy,
            sampler=self.sampler,
            levels=coefficients,
            coupling=coupling,
            every_level=self.label_levels == "every",
            label_weight=self.label_weight,
            fold=self.folded_chains,
        )

    def _check_sampler(self) -> None:
        """Raise `ConfigError` for steps in units of the conditionals' width where f / b_t is far steeper than that."""
        if self.sampler.needs_factor and self.energy_scale == "official":
            raise ConfigError(
                f'prior.sampler: its proposals are as wide as the conditionals, and energy_scale = "official" divides '
                f"f by b_t, of the order of step_size = {self.step_size:g}: none would be accepted; use "
                'prior.energy_scale = "paper"'
            )

    def _levels(self, noised: Schedule) -> Levels:
        alpha, sigma = noised.alpha[1:], noised.sigma[1:]
        recovery = torch.ones_like(alpha)
        if self.last_level == "official":
            recovery[-1] = 0
        official = self.step_size * noised.sigma_cum[:-1] / noised.sigma_cum[0] * sigma.square()
        scaled = self.energy_scale == "official"
        return Levels(
            forward=noised if self.first_level == "official" else noised.clean(),
            alpha=alpha,
            sigma=sigma,
            recovery=recovery,
            energy_scale=official if scaled else torch.ones_like(alpha),
            scale=official if scaled else sigma.square(),
        )
