"""Measure how well a score separates two sets: AUROC, average precision, false positives at 95 % recall."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hebm.errors import DataError
from hebm.evaluation.auroc import auroc

RECALL = 0.95


class Detection(NamedTuple):
    """Three detection metrics of one score.

    Arguments:
        auroc: P(s₊ > s₋) + ½ P(s₊ = s₋); 0.5 is chance, and below it the score is reversed.
        auprc: average precision; chance is the share of positives.
        fpr95: share of negatives above the threshold that 95 % of the positives reach; lower is better.
    """

    auroc: float
    auprc: float
    fpr95: float


def detection(positive: Tensor, negative: Tensor) -> Detection:
    """Return all three metrics for scores that should be high, `(N,)`, and low, `(M,)`.

    Raises `DataError` for an empty set or a NaN.
    """
    return Detection(
        auroc(positive, negative),
        average_precision(positive, negative),
        false_positive_rate(positive, negative),
    )


def average_precision(positive: Tensor, negative: Tensor) -> float:
    """Return the average precision Σ_n (R_n − R_{n−1}) P_n over the thresholds n. Equal scores share a threshold.

    Raises `DataError` for an empty set or a NaN.
    """
    _require(positive, negative)
    scores = torch.cat([positive, negative]).double()
    order = scores.argsort(descending=True)
    hits = (order < len(positive)).double().cumsum(0)
    _, counts = torch.unique_consecutive(scores[order], return_counts=True)
    last = counts.cumsum(0) - 1  # where each threshold's scores end
    precision = hits[last] / (last + 1)
    recall = hits[last] / len(positive)
    return float((torch.diff(recall, prepend=recall.new_zeros(1)) * precision).sum())


def false_positive_rate(positive: Tensor, negative: Tensor, recall: float = RECALL) -> float:
    """Return the share of negatives with s ≥ t, where t is the highest threshold with the given recall of positives.

    Raises `DataError` for an empty set or a NaN.
    """
    _require(positive, negative)
    needed = math.ceil(recall * len(positive) - 1e-9)  # 0.95 × 20 is 19, whatever rounding says
    threshold = positive.double().sort(descending=True).values[max(1, needed) - 1]
    return float((negative.double() >= threshold).double().mean())


def _require(positive: Tensor, negative: Tensor) -> None:
    if not len(positive) or not len(negative) or positive.isnan().any() or negative.isnan().any():
        raise DataError(f"detection needs scores without NaN on both sides, got {len(positive)} and {len(negative)}")
