"""Noise-contrastive estimation: learn a density ratio by classifying two sets of draws.

    loss = −E_q[log σ(log r)] − E_p[log(1 − σ(log r))] = E_q[softplus(−log r)] + E_p[softplus(log r)]

The optimum is log r = log q − log p, with loss 2 log 2 − 2 JS(q, p). At r = 1 the loss is 2 log 2 = 1.386.

References:
    Noise-contrastive estimation: Gutmann and Hyvärinen 2010.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from hebm.contrasts import bce


def contrast_terms(positive: Tensor, negative: Tensor) -> Mapping[str, Tensor]:
    """Return metrics of log ratios `(B, E)`: the loss of their sum, the loss of each energy, and their means."""
    positive, negative = positive.detach(), negative.detach()
    return {
        "bce": bce(positive.sum(1), negative.sum(1)),
        "log_ratio_positive": positive.sum(1).mean(),
        "log_ratio_negative": negative.sum(1).mean(),
        **{f"bce_layer_{i}": value for i, value in enumerate(bce(positive, negative))},
    }
