"""The metrics of one training step: loss, terms of the loss, and counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hebm.interfaces import Loss

COUNT = "nonfinite"
"""The prefix of terms that are counts: summed over rows, processes and all steps of the run."""


def is_count(name: str) -> bool:
    """Return whether a term is a count, by its name."""
    return name.startswith(COUNT)


def mean_metrics(losses: Sequence[Loss]) -> dict[str, Tensor]:
    """Return the loss and its terms averaged over micro-batches, and counts summed over them."""
    metrics = {"loss": torch.stack([loss.total.detach() for loss in losses]).mean()}
    for name in losses[0].terms:
        values = torch.stack([loss.terms[name] for loss in losses])
        metrics[name] = values.sum() if is_count(name) else values.mean()
    return metrics
