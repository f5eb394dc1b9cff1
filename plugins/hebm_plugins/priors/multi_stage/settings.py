"""Settings for learning a product of ratios and drawing from it: `[prior.contrast]` and `[prior.drawing]`."""

from __future__ import annotations

from hebm.config.recipes import option, recipe


@recipe
class Drawing:
    """Settings for drawing from a product of ratios.

    | `mode` | a draw |
    |---|---|
    | `joint` | one chain on the whole product (section 5.4.2) |
    | `progressive` | one chain per stage, each from the end of the previous one |
    | `smc` | weighted particles, resampled and moved from stage to stage (not in the paper) |

    The target of a progressive stage is the product up to it, or with `factors = "single"` its own factor alone, as
    the paper's text says.
    """

    mode: str = option(
        "joint",
        doc="method of drawing from the product",
        choices=("joint", "progressive", "smc"),
        renamed_from="../sampling",
    )
    factors: str = option(
        "product", doc="target of a progressive stage", choices=("product", "single"), renamed_from="../factors"
    )
    particles: int = option(16, doc='particles for each sample, with mode = "smc"', low=2, renamed_from="../particles")
    threshold: float = option(
        0.5, doc="smc resamples if ESS / particles is below this", low=0, high=1, renamed_from="../threshold"
    )


@recipe
class Contrast:
    """Settings for learning the ratios.

    | key | default | alternative |
    |---|---|---|
    | `loss` | `joint`: one logit Σ_i f_i, unbiased | `per-layer` (Figs 7 and 8): biased if layers depend on others |
    | `negatives` | `chain`: new draws of p_{m−1} at every step | `pool`: stored draws; `posterior` |
    | `infer_under` | `previous`: posterior chains under p_{m−1} (scheme joint) | `current`: the product being learned |

    `negatives = "pool"` saves the chains of most steps and needs a frozen backbone (scheme two-phase). Later stages
    overfit a small pool, which degrades the product. `negatives = "posterior"` uses the previous stage's posterior
    draws in place of draws of p_{m−1} (adaptive CE, arXiv 2209.08739). It is for scheme joint: in scheme two-phase
    these are draws of the target, and later stages learn nothing.
    """

    loss: str = option(
        "joint",
        doc="one logit for all layers, or one per layer",
        choices=("joint", "per-layer"),
        renamed_from="../loss",
    )
    negatives: str = option(
        "chain",
        doc="source of the draws of p_{m-1} in training",
        choices=("chain", "pool", "posterior"),
        renamed_from="../negatives",
    )
    pool: int = option(
        20_000, doc='stored draws, with negatives = "pool" or "posterior"', low=1, renamed_from="../pool"
    )
    refresh: int = option(
        0, doc="steps after which the pool is drawn again; 0 for never", low=0, unit="steps", renamed_from="../refresh"
    )
    infer_under: str = option(
        "previous", doc="the prior of posterior chains", choices=("previous", "current"), renamed_from="../infer_under"
    )
    label_weight: float = option(
        1.0, doc="weight of the labels' cross-entropy in the loss", low=0, renamed_from="../label_weight"
    )
