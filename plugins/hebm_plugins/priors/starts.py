"""The key `start_proposals`, which several priors have: where their chains start."""

from __future__ import annotations

START = (
    "P: a chain starts at one of P draws of the root, chosen by exp f (SIR), in training too; it costs P evaluations "
    "of f without a gradient. 1 starts at a draw of the root"
)
