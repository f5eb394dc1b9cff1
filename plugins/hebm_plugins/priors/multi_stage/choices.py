"""How a product of ratios is learned, and how it is drawn from."""

from __future__ import annotations

import attrs


@attrs.frozen
class Drawing:
    """How draws of a product of ratios are made.

    Arguments:
        mode: "joint": one chain on the product; "progressive": one for each stage, from where the last one ended;
            "smc": particles.
        factors: target of a progressive stage s: "product" of the ratios up to s, or the "single" one.
        particles: P of each sample, for smc.
        threshold: ESS / P below which they are resampled.
    """

    mode: str = "joint"
    factors: str = "product"
    particles: int = 16
    threshold: float = 0.5


@attrs.frozen
class Contrast:
    """How ratios are learned.

    Arguments:
        loss: "joint": one logit Σ_i f_i; "per-layer": one for each f_i.
        negatives: "chain", "pool" or "posterior", see the recipe.
        pool: how many draws are kept.
        refresh: steps after which they are drawn anew; 0 for never.
        infer_under: "previous" or "current": the product under which latents are inferred by MCMC.
        label_weight: of the labels' cross-entropy.
    """

    loss: str = "joint"
    negatives: str = "chain"
    pool: int = 20_000
    refresh: int = 0
    infer_under: str = "previous"
    label_weight: float = 1.0
