"""Held-out loss, AUROC and certified nats of a phase that learns by contrast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import attrs

from hebm.contrasts import Contrasted, held_out
from hebm.data.batches import Batches
from hebm.interfaces import PriorLearner
from hebm.noise import Noise
from hebm.trained import evaluating
from hebm.training.phases import Phase

IMAGES = 512
"""How many held-out images are inferred, at most; and as many negatives are drawn."""
LOSS = "validation_loss"
"""The name in the log of the loss that `patience` watches."""


@attrs.frozen(eq=False)
class Validation:
    """Held-out draws of a phase, made once when it starts or resumes, and always the same ones.

    One evaluation is a forward pass of the log ratio over at most 2 × `IMAGES` draws, without gradients.

    Arguments:
        prior: whose log ratio is evaluated, in eval mode: the averaged copy where the phase keeps one.
        contrasts: the draws, a batch at a time.
    """

    prior: PriorLearner
    contrasts: Sequence[Contrasted]

    @classmethod
    def of(cls, phase: Phase, prior: PriorLearner, images: Batches, noise: Noise) -> Self | None:
        """Infer held-out images and draw negatives; None for a phase that does not learn by contrast.

        Arguments:
            phase: has started.
            prior: its own, or the averaged copy.
            images: the held-out images, in file order.
            noise: a role of its own; the same each time, and on every process.
        """
        with evaluating(prior):
            contrasts = list(_contrasts(phase, prior, images, noise))
        return cls(prior, contrasts) if contrasts else None

    def metrics(self) -> dict[str, float]:
        """Return the loss in nats, the AUROC and the certified nats at the current weights."""
        with evaluating(self.prior):
            found = held_out(self.contrasts)
        return {LOSS: found.loss, "validation_auroc": found.auroc, "validation_nats": found.nats}


def _contrasts(phase: Phase, prior: PriorLearner, images: Batches, noise: Noise) -> Iterator[Contrasted]:
    count, rows = min(IMAGES, len(images.images)), images.recipe.batch_size
    for first in range(0, count, rows):
        batch = images.in_order(first, min(rows, count - first))
        made = phase.contrasted(prior, batch, noise.at(first))
        if made is None:
            return
        yield made
