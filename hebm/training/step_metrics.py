"""The metrics of one training step: its loss, the loss's terms, its counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hebm.interfaces import Loss

COUNT = "nonfinite"
"""The prefix of terms that are counts: summed over rows, processes and all steps of the run."""


def is_count(name: str) -> bool:
    """Return whether a term is a count."""
    return name.startswith(COUNT)


def mean_metrics(losses: Sequence[Loss]) -> dict[str, Tensor]:
    """Return the loss and its terms averaged over micro-batches; counts are summed."""
    metrics = {"loss": torch.stack([loss.total.detach() for loss in losses]).mean()}
    for name in losses[0].terms:
        values = torch.stack([loss.terms[name] for loss in losses])
        metrics[name] = values.sum() if is_count(name) else values.mean()
    return metrics
