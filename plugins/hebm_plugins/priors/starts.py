"""The keys `start` and `start_proposals`, which priors by chains have: where their chains start."""

from __future__ import annotations

START = (
    "prior whose draws chains start at, in training too; left out: the root. It is trained first and then stays as it "
    "is; the density of this prior does not depend on it"
)
START_PROPOSALS = (
    "P: a chain starts at one of P draws of `start`, or of the root, chosen by exp f (SIR), in training too; it costs "
    "P evaluations of f without a gradient. With 1 the first one is taken. After `start` it is a better beginning, "
    "not a weighted draw: the weights leave out its density"
)
