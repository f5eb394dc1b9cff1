"""Make batches as a pure function of (seed, step). Nothing needs saving, and any number of processes agree.

Training runs over an infinite list of positions; step s uses positions s·B … (s+1)·B − 1. Position p is image
π_e(p mod N) of epoch e = p div N, where π_e is the permutation derived from (seed, "order", e). An epoch may end in
the middle of a batch, and no image is dropped. Flips and binarisation are derived from (seed, purpose, step) and the
row in the *whole* batch, for any division into processes and micro-batches. They are always drawn on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hebm.data.dataset_recipe import DatasetRecipe
from hebm.data.images import Images
from hebm.data.workers import prepared
from hebm.errors import ConfigError, DataError, HebmError
from hebm.interfaces import Batch
from hebm.noise import Noise, derive_seed

Tensors: TypeAlias = tuple[Tensor, Tensor, Tensor | None, Tensor]


class Batches:
    """The batches of one process.

    Arguments:
        images: the split.
        recipe: the data set's recipe, with batch size, flips, binarisation and workers.
        seed: the run's seed.
        training: shuffle, repeat epochs and flip; otherwise one pass in file order, whose last batch may be smaller.
        rows: rows of every batch that this process takes: (rank, world), a slice of the batch, or None for all.
        device: device of the batches.
        dtype: floating-point type of x and target.

    Raises:
        ConfigError: if `world` does not divide the batch size.
        DataError: if there are fewer images than a training batch needs.
    """

    def __init__(
        self,
        images: Images,
        recipe: DatasetRecipe,
        seed: int,
        training: bool = True,
        rows: slice | tuple[int, int] | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.images, self.recipe, self.seed, self.training = images, recipe, seed, training
        self.device, self.dtype = torch.device(device), dtype
        self._first, self._last = _bounds(recipe.batch_size, rows)
        self._orders: dict[int, Tensor] = {}
        if training and len(images) < recipe.batch_size:
            fix = f"lower data.batch_size to at most {len(images)}, or use more images"
            raise DataError(f"{len(images)} image(s) cannot fill a batch of {recipe.batch_size}; {fix}")

    def __len__(self) -> int:
        """Return the number of steps in one pass over the data."""
        return -(-len(self.images) // self.recipe.batch_size)

    def batch(self, step: int, part: int = 0, parts: int = 1) -> Batch:
        """Return this process's rows of a step, or of one of its `parts` micro-batches.

        Raises `ConfigError` if `parts` does not divide the rows.
        """
        return self._move(self.tensors(step, part, parts))

    def in_order(self, start: int, n: int) -> Batch:
        """Return images start … start + n − 1 in file order, unflipped. Binarisation is a function of (seed, image).

        Raises `DataError` if the split has fewer images.
        """
        return self._move(self._in_order(start, n))

    def of_epoch(self, epoch: int, start: int, n: int) -> Batch:
        """Return images start … start + n − 1 in the order of an epoch.

        Flips and binarisation are a function of (seed, epoch, place in the order), independent of the batch size.
        """
        index = self.order(epoch)[start : start + n]
        drawn = Noise(self.seed, "epoch", epoch, start=start)
        x = self._flipped(self.images.read(index), drawn.derive("flip"))
        return self._move(self._finish(x, index, drawn.derive("binarize")))

    def order(self, epoch: int) -> Tensor:
        """Return π_e, `(N,)`: the image at each place of an epoch. Two epochs are cached for batches in both."""
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
            self._orders = {e: order for e, order in self._orders.items() if abs(e - epoch) == 1}
            self._orders[epoch] = torch.randperm(len(self.images), generator=generator)
        return self._orders[epoch]

    def iterate(self, start_step: int, stop_step: int, parts: int = 1) -> Iterator[Batch]:
        """Yield `batch(step, part)` for each step and each of its parts, prepared by workers if there are any."""
        steps = _Steps(self, start_step, stop_step, parts)
        if self.recipe.workers == 0:
            for i in range(len(steps)):
                yield self._move(self.tensors(*steps.at(i)))
            return
        size = 4 * (self._last - self._first) // parts * (2 * math.prod(self.images.shape) + 3)
        seed, pin = derive_seed(self.seed, "workers"), self.device.type == "cuda"
        for item in prepared(steps, self.recipe.workers, seed, size, pin):
            if isinstance(item, str):
                raise DataError(item)
            yield self._move(item)

    def tensors(self, step: int, part: int = 0, parts: int = 1) -> Tensors:
        """Return (x, target, labels, index) of `batch`, on the CPU in float32."""
        rows = self._last - self._first
        if rows % parts:
            raise ConfigError(
                f"{rows} rows of a batch do not divide into {parts} micro-batches; change data.batch_size"
            )
        first = self._first + part * (rows // parts)
        position = step * self.recipe.batch_size + first
        if not self.training:
            left = max(0, min(rows // parts, len(self.images) - position))
            return self._in_order(min(position, len(self.images)), left)
        index = self._indices(position, rows // parts)
        x = self._flipped(self.images.read(index), Noise(self.seed, "flip", step, start=first))
        return self._finish(x, index, Noise(self.seed, "binarize", step, start=first))

    def _in_order(self, start: int, n: int) -> Tensors:
        if start < 0 or start + n > len(self.images):
            fix = "lower evaluate.samples, or use more images"
            raise DataError(f"images {start} to {start + n - 1} requested, but the split has {len(self.images)}; {fix}")
        index = torch.arange(start, start + n)
        return self._finish(self.images.read(index), index, Noise(self.seed, "evaluate", "binarize", start=start))

    def _flipped(self, x: Tensor, noise: Noise) -> Tensor:
        if not self.recipe.flip:
            return x
        return torch.where((noise.uniform(len(x)) < 0.5).view(-1, 1, 1, 1), x.flip(3), x)

    def _finish(self, x: Tensor, index: Tensor, noise: Noise) -> Tensors:
        labels = None if self.images.labels is None else self.images.labels[index]
        target = x
        if self.recipe.binarize != "off":
            target = torch.where(noise.uniform(*x.shape) < (x + 1) / 2, 1.0, -1.0)
        return (target if self.recipe.binarize == "both" else x), target, labels, index

    def _indices(self, position: int, n: int) -> Tensor:
        found, size = [], len(self.images)
        while n:
            epoch, offset = divmod(position, size)
            found.append(self.order(epoch)[offset : offset + n])
            position, n = position + len(found[-1]), n - len(found[-1])
        return torch.cat(found) if found else torch.empty(0, dtype=torch.int64)

    def _move(self, tensors: Tensors) -> Batch:
        x, target, labels, index = tensors
        same = target is x
        x = x.to(self.device, self.dtype, non_blocking=True)
        target = x if same else target.to(self.device, self.dtype, non_blocking=True)
        labels = None if labels is None else labels.to(self.device, non_blocking=True)
        return Batch(x, target, labels, index.to(self.device, non_blocking=True))


class _Steps(Dataset[Tensors | str]):
    """Batches by number for background workers. An error is passed on as its message, without traceback."""

    def __init__(self, batches: Batches, start: int, stop: int, parts: int) -> None:
        self.batches, self.start, self.stop, self.parts = batches, start, stop, parts

    def __len__(self) -> int:
        return max(0, self.stop - self.start) * self.parts

    def at(self, i: int) -> tuple[int, int, int]:
        return self.start + i // self.parts, i % self.parts, self.parts

    def __getitem__(self, i: int) -> Tensors | str:
        try:
            return self.batches.tensors(*self.at(i))
        except HebmError as error:
            return str(error)


def _bounds(batch_size: int, rows: slice | tuple[int, int] | None) -> tuple[int, int]:
    if rows is None:
        return 0, batch_size
    if isinstance(rows, slice):
        first, last, _ = rows.indices(batch_size)
        return first, max(first, last)
    rank, world = rows
    if batch_size % world:
        raise ConfigError(
            f"data.batch_size = {batch_size} does not divide among {world} processes; use a multiple of {world}"
        )
    return rank * batch_size // world, (rank + 1) * batch_size // world
