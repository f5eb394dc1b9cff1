"""The recipe of the multi-stage prior."""

from __future__ import annotations

from hebm.config.recipe import option, recipe
from hebm.errors import ConfigError
from hebm.gaussian import Gaussian
from hebm.interfaces import Backbone, EnergyRecipe, PriorRecipe, Sampler, check_base
from hebm.latents import LatentLayout
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.priors.labels import couple, logits_of
from hebm_plugins.priors.multi_stage.choices import Contrast, Drawing
from hebm_plugins.priors.multi_stage.prior import MultiStagePrior
from hebm_plugins.samplers.ula import ULA

_LARGEST = 2**31
"""Numbers in a pool: 8 GiB in float32."""


@recipe
class MultiStage(PriorRecipe):
    """The adaptive multi-stage EBM prior: density ratios learned one after another by noise-contrastive estimation.

    p_m ∝ Π_{s ≤ m} r_s(T(u)) N(u; 0, I): stage m tells posterior draws from draws of p_{m−1}, whose ratios are fixed.
    The paper publishes no code; what it leaves open is an option here, with this default:

    | key | default | instead |
    |---|---|---|
    | `loss` | one logit Σ_i f_i, the only unbiased one | a logit per layer (Figs 7 and 8), biased where layers depend |
    | `sampling` | `joint`: a chain on the product (section 5.4.2) | `progressive`; `smc`, which is not the paper's |
    | `factors` | a progressive stage climbs the product up to it | its single factor, the text's wording |
    | `negatives` | `chain`: draws of p_{m−1} anew at every step | `pool`: kept ones; `posterior` |
    | `infer_under` | posterior chains under p_{m−1}, scheme joint | under the product that is being learned |

    `negatives = "pool"` spares the chains of most steps, for a fixed backbone (scheme two-phase): later stages soon
    know a small pool by heart, and then spoil the product. `negatives = "posterior"` takes the previous stage's
    posterior draws for those of p_{m−1} (adaptive CE, arXiv 2209.08739): for scheme joint alone; in two-phase they are
    those of the target, and later stages learn nothing. The paper's M = 3 and K = 10; it gives no step size. With
    labels a net has K + 1 outputs (section 5.2.1): log r = log Σ_y exp(l_y) / K − l_{K+1}.
    """

    stages: int = option(3, doc="M, ratios learned one after another", low=1)
    energy: EnergyRecipe = option(factory=MLP, doc="log r of a stage; should start at 0")
    sampler: Sampler = option(factory=lambda: ULA(steps=10, step_size=0.1), doc="chains, in training and after it")
    base: PriorRecipe = option(factory=Gaussian, doc="p_0, the prior that is tilted")
    loss: str = option("joint", doc="a logit for all layers or for each", choices=("joint", "per-layer"))
    sampling: str = option("joint", doc="how the product is drawn from", choices=("joint", "progressive", "smc"))
    factors: str = option("product", doc="target of a progressive stage", choices=("product", "single"))
    particles: int = option(16, doc="of each sample, for smc", low=2)
    threshold: float = option(0.5, doc="ESS / particles below which smc resamples", low=0, high=1)
    negatives: str = option("chain", doc="draws of p_{m-1} in training", choices=("chain", "pool", "posterior"))
    pool: int = option(20_000, doc="draws kept, for negatives pool and posterior", low=1)
    refresh: int = option(0, doc="steps after which the pool is drawn anew; 0 = never", low=0, unit="steps")
    infer_under: str = option("previous", doc="prior of posterior chains", choices=("previous", "current"))
    classes: int = option(0, doc="K of the data's label: a net then has K + 1 outputs; 0 = no labels", low=0)
    attributes: int = option(0, doc="of the data, each at a layer of its own; 0 = none", low=0)
    label_layers: tuple[int, ...] = option((), doc="that carry labels, 0 = top; empty: all, or the uppermost", low=0)
    label_weight: float = option(1.0, doc="of the labels' cross-entropy", low=0)

    def build(self, backbone: Backbone) -> MultiStagePrior:
        """Raises `ConfigError` for a base, labels or negatives that do not fit, or a pool of more than 8 GiB."""
        base = self.base.build(backbone)
        check_base(base, backbone.layout)
        self._check_pool(backbone.layout)
        logits = logits_of(self.classes, self.attributes)
        logits += logits > 1  # one more for the negatives
        ratios = [self.energy.build(backbone.layout, logits) for _ in range(self.stages)]
        energies = ratios[0].count(backbone.layout)
        coupling = couple(self.classes, self.attributes, self.label_layers, energies)
        return MultiStagePrior(
            base=base,
            ratios=ratios,
            sampler=self.sampler,
            coupling=coupling,
            drawing=Drawing(self.sampling, self.factors, self.particles, self.threshold),
            contrast=Contrast(self.loss, self.negatives, self.pool, self.refresh, self.infer_under, self.label_weight),
            dim=backbone.layout.dim,
        )

    def _check_pool(self, layout: LatentLayout) -> None:
        if self.negatives == "chain":
            return
        if layout.context is not None:
            raise ConfigError(
                f'prior.negatives: "{self.negatives}" keeps draws without the context that they belong to, which this '
                'backbone has; use "chain"'
            )
        dim = layout.dim
        if self.pool * dim > _LARGEST:
            raise ConfigError(
                f"prior.pool = {self.pool} draws of {dim} numbers are more than 8 GiB; take at most "
                f'{_LARGEST // dim}, or prior.negatives = "chain"'
            )
