"""Descriptions of the keys `start` and `start_proposals`, which priors that are sampled by chains share."""

from __future__ import annotations

START = (
    "the prior whose draws are the starts of chains, in training too; by default the root. It is trained first and "
    "then frozen; the density of this prior does not depend on it"
)
START_PROPOSALS = (
    "P: each chain starts at one of P draws of `start`, or of the root, chosen with weights exp f (SIR), in training "
    "too. This costs P evaluations of f without gradients. With 1 there is no choice. For draws of `start` the weights "
    "leave out its density, so the choice improves the start of the chain but is not importance sampling"
)
