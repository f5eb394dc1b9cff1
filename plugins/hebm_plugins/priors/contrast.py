"""Noise-contrastive estimation: a density ratio is what tells two sets of draws apart.

    loss = −E_q[log σ(log r)] − E_p[log(1 − σ(log r))] = E_q[softplus(−log r)] + E_p[softplus(log r)]

Its optimum is log r = log q − log p, where it is 2 log 2 − 2 JS(q, p); at r = 1 it is 2 log 2 = 1.386.

References:
    Noise-contrastive estimation: Gutmann and Hyvärinen 2010.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from hebm.contrasts import bce


def contrast_terms(positive: Tensor, negative: Tensor) -> Mapping[str, Tensor]:
    """What to log of log ratios per energy `(B, E)`: the loss of their sum, of each alone, and their means."""
    positive, negative = positive.detach(), negative.detach()
    return {
        "bce": bce(positive.sum(1), negative.sum(1)),
        "log_ratio_positive": positive.sum(1).mean(),
        "log_ratio_negative": negative.sum(1).mean(),
        **{f"bce_layer_{i}": value for i, value in enumerate(bce(positive, negative))},
    }
