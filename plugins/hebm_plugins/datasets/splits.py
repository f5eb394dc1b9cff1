"""Orders and hold-outs that depend on names alone, not on a file system or a generator."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def by_hash(names: Sequence[str]) -> list[int]:
    """Return positions of `names` in the order of their SHA-256.

    Folders sort images by class; in this order the first n are as good as any n.
    """
    return sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode(errors="surrogateescape")).digest())


def hold_out(names: Sequence[str], fraction: float, split: str) -> list[int]:
    """Return the positions of `split` when round(fraction · N) images are held out as "test", by hash of name.

    Both splits keep at least one image where there are two.
    """
    order = by_hash(names)
    held = min(max(1, round(fraction * len(order))), len(order) - 1) if fraction > 0 else 0
    return order[:held] if split == "test" else order[held:]
