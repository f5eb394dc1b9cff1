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
from hebm_plugins.priors.labels import ATTRIBUTES, LABEL_LAYERS, couple, logits_of
from hebm_plugins.samplers.ula import ULA


@recipe
class Diffusion(PriorRecipe):
    """p(u_0) = ∫ Π_t p(u_t | u_{t+1}) p(u_T): the diffusion-learned EBM prior (arXiv 2405.13910, Eq. 13).

        log p(u_t | u_{t+1}) = f(T(u_t), t) / b_t − |u_t|²/2 − |α_{t+1} u_t − u_{t+1}|² / (2σ²_{t+1}) − log Z

    The paper and its published code differ. By default hebm follows the code:

    | key | official | paper |
    |---|---|---|
    | `energy_scale` | f / b_t, b_t = step_size (σ̄_t / σ̄_0) σ²_{t+1}; a chain's step is b_t | f; the step is σ²_{t+1} |
    | `last_level` | no localising term at t = T − 1 | with this term |
    | `first_level` | level 0 is the posterior's u with noise 0.01 | level 0 is the posterior's u |

    `sampler.step_size` is in units of this step: 1 is the published value. About 0.2 suits `energy_scale = "paper"`.

    With labels (`classes` or `attributes`) a layer's net has one logit per class. f_i is their logsumexp at the scale
    of the density, and the labels' cross-entropy is added to the loss. Draws with a label use the logit of its class.

    Example:
        >>> from hebm import ImageSpec, TwoLayer
        >>> backbone = TwoLayer(z_dims=(2, 8)).build(ImageSpec(1, 28, 28))
        >>> prior = Diffusion(levels=3).build(backbone)
        >>> [transition.name for transition in prior.transitions(backbone)]
        ['level 2', 'level 1', 'level 0']
    """

    levels: int = option(3, doc="T, the number of conditional models from noise to the posterior", low=1, high=1000)
    energy: EnergyRecipe = option(factory=MLPTime, doc="f, one energy for all levels")
    sampler: Sampler = option(factory=lambda: ULA(steps=50, step_size=1.0), doc="the short-run chain of each level")
    step_size: float = option(3e-5, doc='factor of b_t with energy_scale = "official"', above=0)
    energy_scale: str = option(
        "official", doc="divide f by b_t (official) or by nothing (paper)", choices=("official", "paper")
    )
    last_level: str = option(
        "official",
        doc="leave out the localising term at t = T - 1 (official) or keep it",
        choices=("official", "paper"),
    )
    first_level: str = option(
        "official", doc="add noise of 0.01 at level 0 (official) or none (paper)", choices=("official", "paper")
    )
    root: PriorRecipe = option(factory=Gaussian, doc="the prior that draws u_T", renamed_from="base")
    classes: int = option(0, doc="the number of classes of the data; 0 for no class labels", low=0)
    attributes: int = option(0, doc=ATTRIBUTES, low=0)
    label_layers: tuple[int, ...] = option((), doc=LABEL_LAYERS, low=0)
    label_levels: str = option(
        "first", doc="levels that labels guide: only t = 0 (paper), or every level", choices=("first", "every")
    )
    label_weight: float = option(1.0, doc="weight of the labels' cross-entropy in the loss", low=0)
    folded_chains: bool = option(
        True,
        doc="compute spectral norms and time embeddings once per chain; the published code does so at every step, "
        "in training too",
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
        """Raise `ConfigError` for proposals as wide as the conditionals if f / b_t is much steeper than these."""
        if self.sampler.needs_factor and self.energy_scale == "official":
            raise ConfigError(
                f'prior.sampler: its proposals are as wide as the conditionals, and energy_scale = "official" divides '
                f"f by b_t, which is of the order of step_size = {self.step_size:g}, so no proposal would be accepted; "
                'use prior.energy_scale = "paper"'
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
