"""Negatives of a stage: draws of the previous stages that are computed once and kept."""

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
"""Draws computed at a time. With small nets, chains of fewer draws take as long."""


def require_fixed(backbone: Backbone) -> None:
    """Raise `ConfigError` if the backbone is still being trained: stored draws of it would be outdated."""
    if any(p.requires_grad for p in backbone.parameters()):
        raise ConfigError(
            'prior.contrast.negatives: a "pool" stores draws of a frozen backbone, and this scheme trains the '
            'backbone too; use "chain" or "posterior", or train.type = "two-phase"'
        )


def bound_to(cache: RowCache, root: PriorLearner, ratios: Sequence[EnergyFn], chain: tuple[object, ...]) -> RowCache:
    """Return the cache bound to all that draws depend on: a root, trained ratios and the settings of a chain."""
    parts = nn.ModuleDict({"root": root, **{f"stage-{s}": ratio for s, ratio in enumerate(ratios, 1)}})
    return cache.bound({"before": digest(parts.state_dict()), "stages": len(ratios), "chain": repr(chain)})


class Pool:
    """A fixed set of draws of a prior, computed once, from which training steps take consecutive batches.

    Step s takes draws s·B … (s+1)·B − 1, where B is the batch size, modulo the size of the pool. Draw i depends only on
    the noise, i and frozen weights.

    Arguments:
        backbone: the frozen backbone, which defines T.
        draw: `draw(n, noise)` returns n draws. It is called only for draws that are not stored yet.
        kept: what to store of a draw: what the energies see.
        size: the number of draws.
        refresh: training steps after which the pool is drawn again; 0 for never.
        noise: the noise of the draws.
        cache: stores the draws, bound to the weights that `draw` uses. With `refresh`, draws stay in memory instead.
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
        """Whether the pool stores latents, not only what is decoded from them."""
        return LATENTS in self.kept.reads

    def __deepcopy__(self, memo: object) -> Pool:
        """Return the pool itself: copies of the prior share its draws."""
        return self

    def take(self, noise: Noise, progress: Progress, like: Tensor) -> Latents:
        """Return the draws of a training step, with all that the energies see.

        Arguments:
            noise: `noise.start` is the number of the first row within the step.
            progress: the number of the step, and of its rows over all processes.
            like: a tensor with one row for each draw, `(B, …)`, that gives their type and device.
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
    """The last posterior draws of a stage, which the next stage uses as negatives. They are saved with the prior.

    With several processes, each records its own rows, and a resumed run uses the rows of the first process.

    Arguments:
        size: the number of draws.
        dim: D, the dimension of z.
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
        """Start a stage: the recorded draws become those of the previous stage, and recording starts again."""
        self.previous.copy_(self.recorded)
        self.counts.copy_(torch.stack([torch.zeros_like(self.counts[0]), self.counts[0]]))

    @torch.no_grad()
    def record(self, z: Tensor) -> None:
        """Record the finite rows of z `(B, D)` over the oldest draws; only the last rows if there are too many."""
        z = z[z.isfinite().all(1)][-len(self.recorded) :]
        at = (self.counts[0] + torch.arange(len(z), device=z.device)) % len(self.recorded)
        self.recorded[at] = z
        self.counts[0] += len(z)

    def take(self, noise: Noise, rows: int) -> Tensor | None:
        """Return z `(rows, D)`, sampled with replacement from the previous stage's draws, or None without any."""
        kept = min(int(self.counts[1]), len(self.previous))
        return self.previous[noise.integers(kept, rows)] if kept else None
