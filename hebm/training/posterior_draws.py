"""Infer m posterior draws of each training image once, and store them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from hebm.data.batches import Batches
from hebm.interfaces import Batch, InferringBackbone, Progress
from hebm.latents import Posterior
from hebm.noise import Noise
from hebm.store.row_cache import RowCache
from hebm.store.rows import KeptRows, Table
from hebm.training.kept_latents import Kept, columns_of


class PosteriorDraws:
    """Stores m draws from q(z|x) of each image. Epoch e of the phase uses draw e mod m.

    Draw j of the image at place p of epoch j's order π_j is row p of table j. The draw, and the flip and binarisation
    of its image, are functions of (seed, j, p). Tables are filled block by block, in the order in which the batches of
    the first m epochs need them. Runs with another m share the tables.

    Arguments:
        backbone: the backbone, frozen and in eval mode.
        batches: the training images.
        kept: the parts of a draw to store.
        count: m, the number of draws per image.
        cache: the cache that stores the draws, bound to the backbone and the data.
    """

    def __init__(self, backbone: InferringBackbone, batches: Batches, kept: Kept, count: int, cache: RowCache) -> None:
        self.backbone, self.batches, self.kept, self.count = backbone, batches, kept, count
        self._noise = Noise(batches.seed, "posterior-draws", device=batches.device, dtype=batches.dtype)
        self._places: dict[int, Tensor] = {}
        table = Table(columns_of(self._drawn(0, 0, 1)), len(batches.images))
        makes = {f"draw {j}": partial(self._drawn, j) for j in range(count)}
        bound = cache.bound({"seed": batches.seed, "flip": batches.recipe.flip, "binarize": batches.recipe.binarize})
        self._tables: tuple[KeptRows, ...] = bound.open("posterior draws", table, makes, "train.posterior_draws")

    @torch.no_grad()
    def of(self, batch: Batch, noise: Noise, progress: Progress) -> Posterior:
        """Return the draws of a batch's images.

        Arguments:
            batch: a batch of this phase, whose first step starts epoch 0.
            noise: the step's noise; `noise.start` is the number of the batch's first row within the step.
            progress: the progress of the phase, with the number of the step.
        """
        rows, images = progress.rows or len(batch.x), len(self.batches.images)
        position = progress.step * rows + noise.start + torch.arange(len(batch.x))
        draws = position // images % self.count
        which = sorted(set(draws.tolist()))
        parts = [self._rows(j, batch.index.cpu()[draws == j]) for j in which]
        order = torch.cat([(draws == j).nonzero().squeeze(1) for j in which]).argsort()
        found = {name: torch.cat([part[name] for part in parts])[order] for name in parts[0]}
        return self.kept.unpacked(self.backbone, found, batch.x)

    def _rows(self, j: int, images: Tensor) -> Mapping[str, Tensor]:
        """Return draw j of the images with these numbers."""
        if j not in self._places:
            self._places[j] = self.batches.order(j).argsort()
        return self._tables[j].take(self._places[j][images])

    @torch.no_grad()
    def _drawn(self, j: int, first: int, count: int) -> Mapping[str, Tensor]:
        """Infer draw j of the images at places first … first + count − 1 of π_j."""
        posterior = self.backbone.infer(self.batches.of_epoch(j, first, count), self._noise.derive(j).at(first))
        return self.kept.packed(self.backbone, posterior)
