"""Sort and hold out images by their names alone, independently of the file system and of random generators."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor


def by_hash(names: Sequence[str]) -> list[int]:
    """Return the positions of `names`, sorted by SHA-256.

    Folders are usually sorted by class. In this order, the first n images are a random sample.
    """
    order: list[int] = _order(names, len(names)).tolist()
    return order


def hold_out(names: Sequence[str], fraction: float, split: str) -> list[int]:
    """Return the positions of `split` if round(fraction · N) images are held out as "test" by the hash of their names.

    With two or more images, both splits get at least one, unless `fraction` is 0.
    """
    part: list[int] = _part(_order(names, len(names)), fraction, split).tolist()
    return part


def hold_out_numbers(count: int, fraction: float, split: str) -> Tensor:
    """Return what `hold_out` does for images with the names "0", …, "count − 1", in ascending order, `(n,)` int64."""
    return torch.from_numpy(np.sort(_part(_order(map(str, range(count)), count), fraction, split)))


def _order(names: Iterable[str], count: int) -> np.ndarray:
    """Return the positions of names, sorted by the first 64 bits of SHA-256. It needs about 24 bytes per name."""
    firsts = (hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8] for name in names)
    return np.argsort(np.fromiter((int.from_bytes(first) for first in firsts), np.uint64, count), kind="stable")


def _part(order: np.ndarray, fraction: float, split: str) -> np.ndarray:
    count = len(order)
    held = min(max(1, round(fraction * count)), count - 1) if fraction > 0 else 0
    return order[:held] if split == "test" else order[held:]
