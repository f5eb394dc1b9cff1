"""Draw images of a model into an output that is written batch by batch, by any number of processes.

A batch of a given size does not depend on the process that computes it, and starts at a multiple of the size.
Processes take turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import torch
from torch import Tensor

from hebm.data.decode import Shape
from hebm.data.labels import asked_labels
from hebm.evaluation.shares import Processes
from hebm.interfaces import ImageSpec
from hebm.layerwise import Temperature
from hebm.model import Diagnose, Model
from hebm.noise import whole_blocks
from hebm.outputs.drawn import Drawn
from hebm.outputs.resumable import Resumable
from hebm.pixel_levels import to_pixels
from hebm.placement import device_of
from hebm.training.listeners import Listener


@attrs.frozen
class Draws:
    """Everything that drawn images depend on besides the model.

    Arguments:
        number: number of images.
        seed: seed of the draws; image i depends on (seed, i).
        labels: k classes by name or number; image i has class i mod k.
        attributes: names of attributes, such as "male,-eyeglasses".
        after, steps, start_proposals, decode, temperature: as for `Model.sample`.
        batch_size: number of images per batch, rounded down to whole noise blocks.
    """

    number: int
    seed: int = 0
    labels: tuple[str, ...] = ()
    attributes: str | None = None
    after: str | None = None
    steps: int | None = None
    start_proposals: int | None = None
    decode: str = "mean"
    temperature: Temperature = 1.0
    batch_size: int = attrs.field(converter=whole_blocks, kw_only=True)

    def settings(self) -> dict[str, Any]:
        """Return the options by name."""
        return {name.replace("_", " "): value for name, value in attrs.asdict(self).items()}

    def batches(self, model: Model, first: int, rows: int, diagnose: Diagnose | None = None) -> Iterator[Tensor]:
        """Return an iterator over batches of images first, first + 1, …, `(B, C, H, W)` in [−1, 1].

        Errors are raised at once, not at the first batch.
        """
        return model.sample_batches(
            rows,
            self.seed,
            first,
            label=[self.labels[i % len(self.labels)] for i in range(first, first + rows)] if self.labels else None,
            attributes=self.attributes,
            after=self.after,
            steps=self.steps,
            start_proposals=self.start_proposals,
            decode=self.decode,
            temperature=self.temperature,
            batch_size=self.batch_size,
            diagnose=diagnose,
        )

    def check(self, model: Model) -> None:
        """Raise `ConfigError` if the model does not support the options. Draws nothing."""
        self.batches(model, 0, max(1, len(self.labels)))

    def drawn(self, images: ImageSpec) -> Drawn:
        """Return number, shape and labels of the images in the output."""
        turns = asked_labels(images, 1, self.labels or None, self.attributes)
        return Drawn(self.number, images.shape, turns, tuple(images.classes), tuple(images.attributes))


def draw_into(
    output: Resumable[Tensor] | None,
    draws: Draws,
    model: Model,
    shape: Shape,
    share: Processes,
    listener: Listener,
    diagnose: Diagnose | None = None,
) -> None:
    """Draw the missing images of an output, and finish it.

    Arguments:
        output: the output, entered by the first process; None in the other processes.
        draws: the images to draw.
        model: the model on its device.
        shape: (C, H, W) of its images.
        share: this process among all processes.
        listener: a listener that is called with the number of finished images.
        diagnose: as for `Model.sample`; called with each batch of this process.
    """
    size, number = draws.batch_size, draws.number
    device = device_of(model)
    start = share.agreed(0 if output is None else output.done, device)
    if start < number:
        start -= start % size
    if output is not None:
        output.rewind(start)
    listener.counted("prior", start, number)
    for first in range(start, number, size * share.world):
        mine = first + share.rank * size
        rows = max(0, min(size, number - mine))
        parts = [to_pixels(part) for part in draws.batches(model, mine, rows, diagnose)] if rows else []
        whole = share.join_one_each(parts, torch.empty(0, *shape, dtype=torch.uint8, device=device), size)
        if output is not None:
            output.write(whole[: number - first].cpu())
        listener.counted("prior", min(number, first + size * share.world), number)
    if output is not None:
        output.finish()
