"""What a stage is trained against: draws of the stages before it, kept and taken from at random."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hebm.noise import Noise

_ROWS = 512
"""Draws at a time."""


class Pool:
    """Draws that follow from a noise and from frozen weights: made when first asked for, and again after a resume.

    Arguments:
        size: how many are kept.
        refresh: training steps after which they are drawn anew; 0 for never.
        noise: of the draws.
    """

    def __init__(self, size: int, refresh: int, noise: Noise) -> None:
        self.size, self.refresh, self.noise = size, refresh, noise
        self.turn, self.u = -1, noise.normal(0, 0)

    def take(self, draw: Callable[[int, Noise], Tensor], step: int, noise: Noise, rows: int) -> Tensor:
        """u `(rows, D)`, with replacement.

        Arguments:
            draw: `draw(n, noise)` gives n draws `(n, D)`.
            step: of the training.
            noise: of the choice, a row per sample.
            rows: how many.
        """
        turn = step // self.refresh if self.refresh else 0
        if turn != self.turn:
            source, starts = self.noise.derive(turn), range(0, self.size, _ROWS)
            self.u = torch.cat([draw(min(_ROWS, self.size - start), source.at(start)) for start in starts])
            self.turn = turn
        return self.u[noise.integers(len(self.u), rows)]


class Bank(nn.Module):
    """The last posterior draws of a stage, which the next stage uses as draws of its root; saved with the prior.

    With several processes each records its own rows, and all go on with those of the first.

    Arguments:
        size: how many.
        dim: D.
    """

    recorded: Tensor
    previous: Tensor
    counts: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("recorded", torch.zeros(size, dim))
        self.register_buffer("previous", torch.zeros(size, dim))
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))

    def turn(self) -> None:
        """A stage begins: what was recorded is now what the stage before left."""
        self.previous.copy_(self.recorded)
        self.counts.copy_(torch.stack([torch.zeros_like(self.counts[0]), self.counts[0]]))

    @torch.no_grad()
    def record(self, z: Tensor) -> None:
        """Keep draws z `(B, D)`, the last ones if they are too many, over the oldest ones; none that is not finite."""
        z = z[z.isfinite().all(1)][-len(self.recorded) :]
        at = (self.counts[0] + torch.arange(len(z), device=z.device)) % len(self.recorded)
        self.recorded[at] = z
        self.counts[0] += len(z)

    def take(self, noise: Noise, rows: int) -> Tensor | None:
        """z `(rows, D)` that the stage before left, with replacement; None if it left none."""
        kept = min(int(self.counts[1]), len(self.previous))
        return self.previous[noise.integers(kept, rows)] if kept else None
