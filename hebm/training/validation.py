"""Validate a phase on held-out images, by the metrics of its log ratio or by its loss."""

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
"""Largest number of held-out images to infer, and of negatives to draw."""
_PREFIX = "validation_"
LOSS = f"{_PREFIX}loss"
"""Name in the log of the loss that `patience` compares."""


@attrs.frozen(eq=False)
class Validation:
    """Held-out draws of a phase, made once when the phase starts or resumes, and the same each time.

    One evaluation is a forward pass without gradients over at most `IMAGES` draws and the same number of negatives.

    Arguments:
        prior: the prior to evaluate, in eval mode: the averaged copy if the phase has one.
        batches: the draws in batches.
    """

    prior: PriorLearner
    batches: Sequence[Validated]

    @classmethod
    def of(cls, phase: Phase, prior: PriorLearner, images: Batches, noise: Noise) -> Self | None:
        """Infer held-out images, and draw negatives if the phase uses them; None for a phase without validation.

        Arguments:
            phase: the phase, after its `start`.
            prior: the phase's prior or its averaged copy.
            images: the held-out images, in file order.
            noise: noise reserved for validation; the same each time and on every process.
        """
        with evaluating(prior):
            batches = list(_batches(phase, prior, images, noise))
        return cls(prior, batches) if batches else None

    def metrics(self) -> dict[str, float]:
        """Return the metrics at the current weights by their names in the log."""
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
