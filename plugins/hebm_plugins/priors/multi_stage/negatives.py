"""What a stage is trained against: draws of the stages before it, computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from hebm.errors import ConfigError
from hebm.interfaces import Backbone, Draw, EnergyFn, Latents, Noise, Posterior, PriorLearner, Progress, RowCache
from hebm.store.rows import KeptRows, Table
from hebm.store.tensor_files import digest
from hebm.tilts import LATENTS
from hebm.training.kept_latents import Kept, columns_of

_ROWS = 512
"""Draws at a time: chains of small nets take as long for a few."""


def require_fixed(backbone: Backbone) -> None:
    """Raise `ConfigError` for a backbone that is trained too: draws of it cannot be kept."""
    if any(p.requires_grad for p in backbone.parameters()):
        raise ConfigError(
            'prior.contrast.negatives: a "pool" keeps draws of a fixed backbone, and this scheme trains it too; '
            'use "chain" or "posterior", or train.type = "two-phase"'
        )


def bound_to(cache: RowCache, root: PriorLearner, ratios: Sequence[EnergyFn], chain: tuple[object, ...]) -> RowCache:
    """Return the cache for draws that depend on a root, on trained ratios, and on the settings of a chain."""
    parts = nn.ModuleDict({"root": root, **{f"stage-{s}": ratio for s, ratio in enumerate(ratios, 1)}})
    return cache.bound({"before": digest(parts.state_dict()), "stages": len(ratios), "chain": repr(chain)})


class Pool:
    """Draws of a prior that are made once, and what an energy sees of them. A training step takes the next ones.

    Step s takes draws s·B … (s+1)·B − 1, B being the batch size, and starts over at the end. Draw i is a function of
    the noise, of i and of frozen weights.

    Arguments:
        backbone: frozen, gives T.
        draw: `draw(n, noise)` returns n draws; it is only called for those that are not kept yet.
        kept: what is kept of a draw.
        size: how many draws.
        refresh: training steps after which they are drawn again; 0 for never.
        noise: of the draws.
        cache: keeps them; it is bound to the weights that `draw` uses. Draws that are drawn again stay in memory.
    """

    def __init__(
        self,
        backbone: Backbone,
        draw: Callable[[int, Noise], Draw],
        kept: Kept,
        size: int,
        refresh: int,
        noise: Noise,
        cache: RowCache,
    ) -> None:
        self.backbone, self.draw, self.kept, self.size, self.refresh = backbone, draw, kept, size, refresh
        self.noise, self.cache = noise, RowCache() if refresh else cache
        self._turn, self._rows = -1, list[KeptRows]()

    @property
    def keeps_latents(self) -> bool:
        """Whether draws have their latents, not only what is decoded of them."""
        return LATENTS in self.kept.reads

    def __deepcopy__(self, memo: object) -> Pool:
        """Return the pool itself: a copy of the prior has the same draws."""
        return self

    def take(self, noise: Noise, progress: Progress, like: Tensor) -> Latents:
        """Return the draws of a step, with what the energies see of them.

        Arguments:
            noise: its first row's number in the step.
            progress: the number of the step.
            like: a row for each draw that is wanted, `(B, …)`.
        """
        turn = progress.step // self.refresh if self.refresh else 0
        if turn != self._turn:
            self._turn, self._rows = turn, list(self._opened(turn, like))
        first = progress.step * (progress.rows or len(like)) + noise.start
        rows = self._rows[0].take((first + torch.arange(len(like))) % self.size)
        return self.kept.unpacked(self.backbone, rows, like).latents

    def _opened(self, turn: int, like: Tensor) -> tuple[KeptRows, ...]:
        one = self.kept.packed(self.backbone, Posterior(self.backbone.layout.zeros(like)))
        name = repr((self.noise.seed, *self.noise.path, turn))
        makes = {name: partial(self._drawn, self.noise.derive(turn))}
        return self.cache.open("negatives", Table(columns_of(one), self.size, _ROWS), makes, "prior.contrast.pool")

    @torch.no_grad()
    def _drawn(self, noise: Noise, first: int, count: int) -> Mapping[str, Tensor]:
        drawn = self.draw(count, noise.at(first))
        return self.kept.packed(self.backbone, Posterior(self.backbone.latents(drawn.u, drawn.context)))


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
        """Start a stage: what was recorded is now what the stage before left."""
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
