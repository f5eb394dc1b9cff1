"""Compute the area under the ROC curve of a score, which measures how well the score separates two sets.

References:
    Comparing the areas under two or more correlated receiver operating characteristic curves, DeLong, DeLong and
    Clarke-Pearson, Biometrics 44, 1988.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hebm.errors import DataError


def auroc(positive: Tensor, negative: Tensor) -> float:
    """Return the AUROC P(s₊ > s₋) + ½ P(s₊ = s₋), the Mann-Whitney statistic divided by n₊ n₋.

    Arguments:
        positive: scores that should be high, `(N,)`.
        negative: scores that should be low, `(M,)`.

    Raises `DataError` for an empty set or a NaN.
    """
    ranks = _mean_ranks(_scores(positive, negative))[: len(positive)]
    wins = ranks.sum() - len(positive) * (len(positive) + 1) / 2
    return float(wins / (len(positive) * len(negative)))


def auroc_error(positive: Tensor, negative: Tensor) -> float:
    """Return the standard error of the AUROC by DeLong, √(Var_i V_i / N + Var_j W_j / M).

    V_i is the share of negative scores below the positive score i, and W_j that of positive scores above the negative
    score j; equal scores count half. It is NaN for fewer than two scores on a side, and 0 if the sets do not overlap.

    Arguments:
        positive: scores that should be high, `(N,)`.
        negative: scores that should be low, `(M,)`.

    Raises `DataError` for an empty set or a NaN.
    """
    n, m = len(positive), len(negative)
    scores = _scores(positive, negative)
    ranks = _mean_ranks(scores)
    above = (ranks[:n] - _mean_ranks(scores[:n])) / m
    below = 1 - (ranks[n:] - _mean_ranks(scores[n:])) / n
    return math.sqrt(above.var() / n + below.var() / m) if min(n, m) > 1 else math.nan


def _scores(positive: Tensor, negative: Tensor) -> Tensor:
    """Return both sets in one tensor, float64 `(N + M,)`."""
    scores = torch.cat([positive, negative]).double()
    if not len(positive) or not len(negative) or scores.isnan().any():
        raise DataError(f"AUROC needs scores without NaN on both sides, got {len(positive)} and {len(negative)}")
    return scores


def _mean_ranks(scores: Tensor) -> Tensor:
    """Return the ranks of scores from 1, `(N,)`. Equal scores share their mean rank."""
    values, count = torch.unique_consecutive(scores.sort().values, return_counts=True)
    group = torch.searchsorted(values, scores)
    ranks: Tensor = (count.cumsum(0).double() - (count - 1) / 2)[group]
    return ranks
