"""Draw images of a model into an output that is written batch by batch, by any number of processes.

A batch of a given size is the same whoever computes it, and starts at a multiple of that size: processes take turns.
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
from hebm.model import Diagnose, Model
from hebm.noise import whole_blocks
from hebm.outputs.drawn import Drawn
from hebm.outputs.identity import device_of
from hebm.outputs.resumable import Resumable
from hebm.pixel_levels import to_pixels
from hebm.training.listeners import Listener


@attrs.frozen
class Draws:
    """Which images are drawn: all that decides the i-th, besides the model.

    Arguments:
        number: how many.
        seed: image i depends on it and i.
        labels: classes by name or number: image i is of the (i mod k)-th of k.
        attributes: names, as in "male,-eyeglasses".
        after, steps, start_proposals, decode, temperature: as for `Model.sample`.
        batch_size: images at a time; rounded down to whole noise blocks.
    """

    number: int
    seed: int = 0
    labels: tuple[str, ...] = ()
    attributes: str | None = None
    after: str | None = None
    steps: int | None = None
    start_proposals: int | None = None
    decode: str = "mean"
    temperature: float = 1.0
    batch_size: int = attrs.field(default=512, converter=whole_blocks)

    def settings(self) -> dict[str, Any]:
        """Return the options by name."""
        return {name.replace("_", " "): value for name, value in attrs.asdict(self).items()}

    def batches(self, model: Model, first: int, rows: int, diagnose: Diagnose | None = None) -> Iterator[Tensor]:
        """Return an iterator over images first, first + 1, … `(B, C, H, W)` in [−1, 1]; errors are raised at once."""
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
        """Raise `ConfigError` for what the model cannot be asked for; nothing is drawn."""
        self.batches(model, 0, max(1, len(self.labels)))

    def drawn(self, images: ImageSpec) -> Drawn:
        """Return what the output will hold, for images of a shape with names of classes or attributes."""
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
    """Draw what is missing of an output and finish it.

    Arguments:
        output: entered by the first process; None in the others.
        draws: which images.
        model: on the device that computes.
        shape: (C, H, W) of its images.
        share: which process this is.
        listener: is told how many images are done.
        diagnose: as for `Model.sample`, called with each batch of this process.
    """
    size, number = draws.batch_size, draws.number
    device = device_of(model)
    done = torch.tensor([0 if output is None else output.done], device=device)
    start = int(share.from_first(done))
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
