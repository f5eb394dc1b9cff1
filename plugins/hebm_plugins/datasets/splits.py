"""Sort and hold out images by their names alone, independently of the file system and of random generators."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def by_hash(names: Sequence[str]) -> list[int]:
    """Return the positions of `names`, sorted by SHA-256.

    Folders are usually sorted by class. In this order, the first n images are a random sample.
    """
    return sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode(errors="surrogateescape")).digest())


def hold_out(names: Sequence[str], fraction: float, split: str) -> list[int]:
    """Return the positions of `split` if round(fraction · N) images are held out as "test" by the hash of their names.

    With two or more images, both splits get at least one, unless `fraction` is 0.
    """
    order = by_hash(names)
    held = min(max(1, round(fraction * len(order))), len(order) - 1) if fraction > 0 else 0
    return order[:held] if split == "test" else order[held:]
