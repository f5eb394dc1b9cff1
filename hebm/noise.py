"""Derived noise: every random number is a function of (run seed, path, draw, row) alone.

A `Noise` is a key with a counter of its draws. `noise.derive("chain", step)` returns a noise with another key. Each
block of 64 consecutive rows has its own seed. So row i gets the same numbers whatever the batch size or the number of
processes, and a resumed run needs no generator state. Global generators are neither read nor changed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

BLOCK = 64
_MASK = (1 << 64) - 1
_LANES = 16
"""Count of numbers that torch's generator of normal numbers makes at a time, on a CPU."""


def whole_blocks(rows: int) -> int:
    """Round a batch size down to a multiple of the noise block, but at least one block."""
    return max(1, rows // BLOCK) * BLOCK


def derive_seed(*path: int | str) -> int:
    """Derive a 64-bit seed from a path such as `(run seed, role, step)`: the first 8 bytes of its SHA-256."""
    return int.from_bytes(hashlib.sha256(repr(path).encode()).digest()[:8], "little")


def _mix(key: int, draw: int, block: int) -> int:
    """Mix (key, draw, block) into a seed by the finaliser of SplitMix64, which is much cheaper than a hash."""
    x = (key + 0x9E3779B97F4A7C15 * (draw + 1) + 0xD1B54A32D192ED03 * (block + 1)) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return (x ^ (x >> 31)) >> 1


class Noise:
    """A source of derived random tensors; the first dimension is the sample.

    Draw k of a `Noise` is a function of (seed, path, k, row). A new `Noise` with the same key repeats its draws.

    Arguments:
        seed: the run's seed.
        path: the purpose of the noise, such as `("prior-chain", step)`.
        start: global index of the first row drawn.
        device: the device of the tensors. CPU and GPU give different numbers.
        dtype: the floating-point type of the tensors.
        block: number of consecutive samples that share one seed.
        group: number G of rows per sample: drawing n · G rows draws `(G, …)` numbers for each of n samples.

    Example:
        >>> whole = Noise(0, "sample").normal(128, 3)
        >>> second = Noise(0, "sample", start=64).normal(64, 3)
        >>> bool((whole[64:] == second).all())
        True
    """

    def __init__(
        self,
        seed: int,
        *path: int | str,
        start: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        block: int = BLOCK,
        group: int = 1,
    ) -> None:
        self.seed, self.path, self.start, self.block, self.group = seed, path, start, block, group
        self.device, self.dtype = torch.device(device), dtype
        self._key = derive_seed(seed, *path)
        self._draws = 0
        self._generator = torch.Generator(self.device)

    def __repr__(self) -> str:
        """Show the key, for error messages."""
        return f"Noise(seed={self.seed}, path={self.path}, start={self.start})"

    def __deepcopy__(self, memo: object) -> Self:
        """Return a noise with the same key, at its first draw."""
        return self._copy(self.path, self.start, self.group)

    def derive(self, *path: int | str) -> Self:
        """Return the noise with `path` appended to this path; earlier draws from this noise do not change it."""
        return self._copy(self.path + path, self.start, self.group)

    def at(self, start: int) -> Self:
        """Return a noise with the same key whose first row is global sample `start`."""
        return self._copy(self.path, start, self.group)

    def grouped(self, group: int) -> Self:
        """Return a noise with the same key and G = `group` rows per sample: row j belongs to sample start + ⌊j / G⌋."""
        return self._copy(self.path, self.start, group)

    def _copy(self, path: tuple[int | str, ...], start: int, group: int) -> Self:
        shared: dict[str, Any] = {"device": self.device, "dtype": self.dtype, "block": self.block}
        return type(self)(self.seed, *path, start=start, group=group, **shared)

    def normal(self, rows: int, *shape: int) -> Tensor:
        """Draw standard normal numbers of shape `(rows, *shape)`."""
        return self._draw(torch.randn, rows, shape, self.dtype)

    def uniform(self, rows: int, *shape: int) -> Tensor:
        """Draw uniform numbers on [0, 1) of shape `(rows, *shape)`."""
        return self._draw(torch.rand, rows, shape, self.dtype)

    def integers(self, high: int, rows: int, *shape: int) -> Tensor:
        """Draw uniform integers in [0, high) of shape `(rows, *shape)`."""
        return (self._draw(torch.rand, rows, shape, torch.float64) * high).long()

    def _draw(self, sample: Callable[..., Tensor], rows: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        if self.group > 1:
            shape, rows = (self.group, *shape), self._samples(rows)
        draw, self._draws = self._draws, self._draws + 1
        out = torch.empty(rows, *shape, device=self.device, dtype=dtype)
        first, last = self.start, self.start + rows
        for block in range(first // self.block, -(-last // self.block)):
            low = block * self.block
            seeded = self._generator.manual_seed(_mix(self._key, draw, block))
            if first <= low and low + self.block <= last:
                sample((self.block, *shape), generator=seeded, out=out[low - first : low - first + self.block])
                continue
            a, b = max(first, low), min(last, low + self.block)
            count = self._rows_to_draw(b - low, math.prod(shape))
            part = sample((count, *shape), generator=seeded, device=self.device, dtype=dtype)
            out[a - first : b - first] = part[a - low : b - low]
        return out.flatten(0, 1) if self.group > 1 else out

    def _rows_to_draw(self, rows: int, size: int) -> int:
        """Return how many rows of a block to draw, so that the first `rows` rows get the numbers of a whole block.

        On a CPU, torch fills a tensor 16 numbers at a time, so any whole number of sixteens starts like the block.
        """
        if self.device.type != "cpu" or self.block * size % _LANES:
            return self.block
        step = _LANES // math.gcd(size, _LANES)
        return min(self.block, -(-rows // step) * step)

    def _samples(self, rows: int) -> int:
        if rows % self.group:
            raise ValueError(f"{rows} rows are not a whole number of groups of {self.group}; draw whole samples")
        return rows // self.group
