"""Validation of a stage on draws of held-out images, which are made once and measured at the current weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Self

import attrs

from hebm.backbone import Loss


class Validated(ABC):
    """Draws of one batch of held-out images, on which the current weights are measured."""

    @classmethod
    @abstractmethod
    def metrics(cls, batches: Sequence[Self]) -> dict[str, float]:
        """Return the metrics over all batches. `patience` watches the metric "loss"."""


@attrs.frozen(eq=False)
class HeldOutLoss(Validated):
    """The loss on one batch, for a stage whose loss falls as the stage improves.

    Arguments:
        rows: number of images in the batch.
        loss: returns the mean over the batch at the current weights, with the same noise in each call.
    """

    rows: int
    loss: Callable[[], Loss]

    @classmethod
    def metrics(cls, batches: Sequence[Self]) -> dict[str, float]:
        """Return the mean loss over all images, and the mean of each term."""
        total = sum(batch.rows for batch in batches)
        means: dict[str, float] = {}
        for batch in batches:
            loss = batch.loss()
            for name, value in {"loss": loss.total, **loss.terms}.items():
                means[name] = means.get(name, 0.0) + float(value.detach()) * batch.rows / total
        return means
