"""How a product of ratios is learned, and how it is drawn from: `[prior.contrast]` and `[prior.drawing]`."""

from __future__ import annotations

from hebm.config.recipes import option, recipe


@recipe
class Drawing:
    """How draws of a product of ratios are made.

    `joint` runs one chain on the product (section 5.4.2); `progressive` one chain for each stage, from where the last
    one ended; `smc`, which is not the paper's, weights and resamples particles from stage to stage. A progressive stage
    climbs the product up to it, or its `single` factor, as the paper's text says.
    """

    mode: str = option(
        "joint",
        doc="how the product is drawn from",
        choices=("joint", "progressive", "smc"),
        renamed_from="../sampling",
    )
    factors: str = option(
        "product", doc="target of a progressive stage", choices=("product", "single"), renamed_from="../factors"
    )
    particles: int = option(16, doc="of each sample, for smc", low=2, renamed_from="../particles")
    threshold: float = option(
        0.5, doc="ESS / particles below which smc resamples", low=0, high=1, renamed_from="../threshold"
    )


@recipe
class Contrast:
    """How ratios are learned.

    | key | default | instead |
    |---|---|---|
    | `loss` | one logit Σ_i f_i, the only unbiased one | a logit per layer (Figs 7 and 8), biased where layers depend |
    | `negatives` | `chain`: new draws of p_{m−1} at every step | `pool`: kept draws; `posterior` |
    | `infer_under` | posterior chains under p_{m−1}, scheme joint | under the product that is being learned |

    `negatives = "pool"` saves the chains of most steps, for a fixed backbone (scheme two-phase); later stages overfit a
    small pool, which degrades the product. `negatives = "posterior"` uses the previous stage's posterior draws in
    place of draws of p_{m−1} (adaptive CE, arXiv 2209.08739). It is for scheme joint: in two-phase these are draws of
    the target, and later stages learn nothing.
    """

    loss: str = option(
        "joint", doc="a logit for all layers or for each", choices=("joint", "per-layer"), renamed_from="../loss"
    )
    negatives: str = option(
        "chain", doc="draws of p_{m-1} in training", choices=("chain", "pool", "posterior"), renamed_from="../negatives"
    )
    pool: int = option(20_000, doc="draws kept, for negatives pool and posterior", low=1, renamed_from="../pool")
    refresh: int = option(
        0, doc="steps after which the pool is drawn again; 0 = never", low=0, unit="steps", renamed_from="../refresh"
    )
    infer_under: str = option(
        "previous", doc="prior of posterior chains", choices=("previous", "current"), renamed_from="../infer_under"
    )
    label_weight: float = option(1.0, doc="of the labels' cross-entropy", low=0, renamed_from="../label_weight")
