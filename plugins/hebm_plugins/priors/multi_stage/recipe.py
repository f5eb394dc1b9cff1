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
from hebm_plugins.priors.labels import couple, logits_of
from hebm_plugins.priors.multi_stage.prior import MultiStagePrior
from hebm_plugins.priors.multi_stage.settings import Contrast, Drawing
from hebm_plugins.priors.starts import START, START_PROPOSALS
from hebm_plugins.samplers.ula import ULA

_LARGEST = 2**31
"""Numbers in a pool: 8 GiB in float32."""


@recipe
class MultiStage(PriorRecipe):
    """The adaptive multi-stage EBM prior: density ratios learned one after another by noise-contrastive estimation.

    p_m ∝ Π_{s ≤ m} r_s(T(u)) N(u; 0, I): stage m tells posterior draws from draws of p_{m−1}, whose ratios are fixed.
    The paper publishes no code; what it leaves open is an option, most of them in `drawing` and `contrast`. The paper's
    M = 3 and K = 10; it gives no step size. With labels a net has K + 1 outputs (section 5.2.1):
    log r = log Σ_y exp(l_y) / K − l_{K+1}.
    """

    stages: int = option(3, doc="M, ratios learned one after another", low=1, high=100)
    energy: EnergyRecipe = option(factory=MLP, doc="log r of a stage; should start at 0")
    sampler: Sampler = option(factory=lambda: ULA(steps=10, step_size=0.1), doc="chains, in training and after it")
    root: PriorRecipe = option(factory=Gaussian, doc="p_0, the root that is tilted", renamed_from="base")
    start: PriorRecipe | None = option(None, doc=START)
    start_proposals: int = option(1, doc=START_PROPOSALS, low=1)
    drawing: Drawing = option(factory=Drawing, doc="how the product is drawn from")
    contrast: Contrast = option(factory=Contrast, doc="how ratios are learned")
    classes: int = option(0, doc="K of the data's label: a net then has K + 1 outputs; 0 = no labels", low=0)
    attributes: int = option(0, doc="of the data, each at a layer of its own; 0 = none", low=0)
    label_layers: tuple[int, ...] = option((), doc="that carry labels, 0 = top; empty: all, or the uppermost", low=0)

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
        """Raise `ConfigError` for starts other than the root where particles are weighted."""
        if self.drawing.mode != "smc":
            return
        if self.start is not None:
            raise ConfigError(
                'prior.start: prior.drawing.mode = "smc" weights its particles as draws of the root; leave the start '
                "out, or use another mode"
            )
        if self.start_proposals > 1:
            raise ConfigError(
                f'prior.start_proposals = {self.start_proposals}: prior.drawing.mode = "smc" starts its particles at '
                "draws of the root and weights them; use more prior.drawing.particles, or another mode"
            )

    def _check_pool(self, layout: LatentLayout) -> None:
        """Raise `ConfigError` for a pool of more than 8 GiB, or of draws whose context it would lose."""
        contrast = self.contrast
        if contrast.negatives == "chain":
            return
        if layout.context is not None:
            raise ConfigError(
                f'prior.contrast.negatives: "{contrast.negatives}" keeps draws without the context that they belong '
                'to, and this backbone has one; use "chain"'
            )
        if contrast.pool * layout.dim > _LARGEST:
            raise ConfigError(
                f"prior.contrast.pool = {contrast.pool} draws of {layout.dim} numbers are more than 8 GiB; use at most "
                f'{_LARGEST // layout.dim}, or prior.contrast.negatives = "chain"'
            )
