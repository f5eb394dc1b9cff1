"""Compute the area under the ROC curve of a score: how well it separates two sets."""

from __future__ import annotations

import torch
from torch import Tensor

from hebm.errors import DataError


def auroc(positive: Tensor, negative: Tensor) -> float:
    """Return P(s₊ > s₋) + ½ P(s₊ = s₋), the Mann-Whitney statistic over n₊ n₋.

    Arguments:
        positive: scores that should be high, `(N,)`.
        negative: scores that should be low, `(M,)`.

    Raises `DataError` for an empty set or a NaN.
    """
    scores = torch.cat([positive, negative]).double()
    if not len(positive) or not len(negative) or scores.isnan().any():
        raise DataError(f"AUROC needs scores without NaN on both sides, got {len(positive)} and {len(negative)}")
    ranks = _mean_ranks(scores)[: len(positive)]
    wins = ranks.sum() - len(positive) * (len(positive) + 1) / 2
    return float(wins / (len(positive) * len(negative)))


def _mean_ranks(scores: Tensor) -> Tensor:
    """Rank scores from 1, `(N,)`; equal scores share their mean rank."""
    values, count = torch.unique_consecutive(scores.sort().values, return_counts=True)
    group = torch.searchsorted(values, scores)
    ranks: Tensor = (count.cumsum(0).double() - (count - 1) / 2)[group]
    return ranks
