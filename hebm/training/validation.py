"""Held-out metrics of a phase: those of its log ratio, or its loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import attrs

from hebm.data.batches import Batches
from hebm.interfaces import PriorLearner
from hebm.noise import Noise
from hebm.trained import evaluating
from hebm.training.phases import Phase
from hebm.validated import Validated

IMAGES = 512
"""How many held-out images are inferred, at most; and as many negatives are drawn."""
_PREFIX = "validation_"
LOSS = f"{_PREFIX}loss"
"""The name in the log of the loss that `patience` watches."""


@attrs.frozen(eq=False)
class Validation:
    """Held-out draws of a phase, made once when it starts or resumes, and always the same ones.

    One evaluation is a forward pass over at most `IMAGES` draws, and as many negatives, without gradients.

    Arguments:
        prior: what is evaluated, in eval mode: the averaged copy where the phase keeps one.
        batches: the draws, a batch at a time.
    """

    prior: PriorLearner
    batches: Sequence[Validated]

    @classmethod
    def of(cls, phase: Phase, prior: PriorLearner, images: Batches, noise: Noise) -> Self | None:
        """Infer held-out images, and draw negatives if there are any; None for a phase without validation.

        Arguments:
            phase: has started.
            prior: its own, or the averaged copy.
            images: the held-out images, in file order.
            noise: a role of its own; the same each time, and on every process.
        """
        with evaluating(prior):
            batches = list(_batches(phase, prior, images, noise))
        return cls(prior, batches) if batches else None

    def metrics(self) -> dict[str, float]:
        """Return the metrics at the current weights, by their names in the log."""
        with evaluating(self.prior):
            found = type(self.batches[0]).metrics(self.batches)
        return {f"{_PREFIX}{name}": value for name, value in found.items()}


def _batches(phase: Phase, prior: PriorLearner, images: Batches, noise: Noise) -> Iterator[Validated]:
    count, rows = min(IMAGES, len(images.images)), images.recipe.batch_size
    for first in range(0, count, rows):
        batch = images.in_order(first, min(rows, count - first))
        made = phase.validated(prior, batch, noise.at(first))
        if made is None:
            return
        yield made
