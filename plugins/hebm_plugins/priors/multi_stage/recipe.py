"""The recipe of the multi-stage prior."""

from __future__ import annotations

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError
from hebm.gaussian import Gaussian
from hebm.interfaces import (
    Backbone,
    EnergyRecipe,
    LatentLayout,
    PriorRecipe,
    Sampler,
    build_energy,
    build_root,
    build_start,
)
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.priors.labels import ATTRIBUTES, LABEL_LAYERS, couple, logits_of
from hebm_plugins.priors.multi_stage.prior import MultiStagePrior
from hebm_plugins.priors.multi_stage.settings import Contrast, Drawing
from hebm_plugins.priors.starts import START, START_PROPOSALS
from hebm_plugins.samplers.ula import ULA

_LARGEST = 2**31
"""The most numbers in a pool: 8 GiB in float32."""


@recipe
class MultiStage(PriorRecipe):
    """p_M(u) ∝ Π_{s ≤ M} r_s(T(u)) N(u; 0, I): the adaptive multi-stage EBM prior, a product of density ratios.

    Noise-contrastive estimation learns the ratios one after another: stage m separates posterior draws from draws of
    p_{m−1}, whose ratios are fixed. With labels a net has K + 1 outputs (section 5.2.1):

        log r = log Σ_y exp(l_y) / K − l_{K+1}

    The paper has M = 3 stages and chains of 10 steps; it gives no step size and publishes no code. Choices that it
    leaves open are keys, most of them in `drawing` and `contrast`.

    Example:
        >>> from hebm import ImageSpec, TwoLayer
        >>> backbone = TwoLayer(z_dims=(2, 8)).build(ImageSpec(1, 28, 28))
        >>> prior = MultiStage(stages=2).build(backbone)
        >>> [stage.name for stage in prior.stages()]
        ['stage 1', 'stage 2']
    """

    stages: int = option(3, doc="M, the number of ratios, learned one after another", low=1, high=100)
    energy: EnergyRecipe = option(factory=MLP, doc="log r of a stage; it should start at 0")
    sampler: Sampler = option(
        factory=lambda: ULA(steps=10, step_size=0.1), doc="the chain of each stage, in training and after it"
    )
    root: PriorRecipe = option(factory=Gaussian, doc="p_0, the root that is tilted", renamed_from="base")
    start: PriorRecipe | None = option(None, doc=START)
    start_proposals: int = option(1, doc=START_PROPOSALS, low=1)
    drawing: Drawing = option(factory=Drawing, doc="settings for drawing from the product")
    contrast: Contrast = option(factory=Contrast, doc="settings for learning the ratios")
    classes: int = option(0, doc="K, the number of classes of the data, for K + 1 outputs; 0 for no labels", low=0)
    attributes: int = option(0, doc=ATTRIBUTES, low=0)
    label_layers: tuple[int, ...] = option((), doc=LABEL_LAYERS, low=0)

    def build(self, backbone: Backbone) -> MultiStagePrior:
        """Build the prior. Raises `ConfigError` for a root, energy, labels, negatives or starts that do not fit."""
        root, layout = build_root(self.root, backbone), backbone.layout
        self._check_start()
        self._check_pool(layout)
        logits = logits_of(self.classes, self.attributes)
        logits += logits > 1  # one more for the negatives
        ratios = [build_energy(self.energy, layout, logits) for _ in range(self.stages)]
        coupling = couple(self.classes, self.attributes, self.label_layers, ratios[0].count(layout))
        start = build_start(self.start, backbone)
        return MultiStagePrior(
            root, ratios, self.sampler, coupling, self.drawing, self.contrast, layout.dim, self.start_proposals, start
        )

    def _check_start(self) -> None:
        """Raise `ConfigError` if weighted particles (mode smc) would start anywhere but at draws of the root."""
        if self.drawing.mode != "smc":
            return
        if self.start is not None:
            raise ConfigError(
                'prior.start: prior.drawing.mode = "smc" weights its particles as draws of the root; remove '
                "prior.start, or use another mode"
            )
        if self.start_proposals > 1:
            raise ConfigError(
                f'prior.start_proposals = {self.start_proposals}: prior.drawing.mode = "smc" starts its particles at '
                "draws of the root and weights them; use more prior.drawing.particles, or another mode"
            )

    def _check_pool(self, layout: LatentLayout) -> None:
        """Raise `ConfigError` for a pool of more than 8 GiB, or for stored draws that need a context."""
        contrast = self.contrast
        if contrast.negatives == "chain":
            return
        if layout.context is not None:
            raise ConfigError(
                f'prior.contrast.negatives: "{contrast.negatives}" stores draws without their context, and this '
                'backbone has a context; use "chain"'
            )
        if contrast.pool * layout.dim > _LARGEST:
            raise ConfigError(
                f"prior.contrast.pool = {contrast.pool} draws of {layout.dim} numbers are more than 8 GiB; use at most "
                f'{_LARGEST // layout.dim}, or prior.contrast.negatives = "chain"'
            )
