"""The pixels of an array in a file, which are read and converted a few rows at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hebm.data.array_files import mapped_array
from hebm_plugins.datasets.pixel_arrays import tensor_of

CHUNK = 1 << 24
"""Number of values that are read at a time."""


class MappedPixels:
    """Images `(N, C, H, W)` in an array of a file, indexed like a tensor.

    A memory-mapped array is not copied: memory is needed only for the rows that are read. It is mapped again where the
    object is unpickled.

    Arguments:
        array: the array in the file's own layout.
        layout: order of its axes: "nhw", "nhwc" or "nchw".
        path: the file.
        key: name of the array in an .npz file; None for an .npy file.
    """

    def __init__(self, array: np.ndarray, layout: str, path: Path, key: str | None) -> None:
        self.array, self.layout, self.path, self.key = array, layout, path, key
        none = self._converted(array[:0])
        self.dtype: torch.dtype = none.dtype
        self.shape: tuple[int, ...] = (len(array), *none.shape[1:])

    def __len__(self) -> int:
        """Return N, the number of images."""
        return len(self.array)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return images at positions `(B,)`, `(B, C, H, W)`."""
        return self._converted(self.array[index.numpy()])

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the values of a mapped array."""
        return {**self.__dict__, "array": None} if isinstance(self.array, np.memmap) else dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the array again if it was mapped."""
        self.__dict__ |= state
        if self.array is None:
            self.array = mapped_array(self.path, self.key)

    @property
    def rows_at_once(self) -> int:
        """The number of images with about `CHUNK` values."""
        return max(1, CHUNK // math.prod(self.shape[1:]))

    def span(self) -> tuple[float, float]:
        """Return the smallest and the largest value; NaN if a value is NaN."""
        spans = [(few.min(), few.max()) for few in self._parts()]
        lows, highs = zip(*spans, strict=True)
        return float(np.min(lows)), float(np.max(highs))

    def _parts(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), self.rows_at_once):
            yield self.array[start : start + self.rows_at_once]

    def _converted(self, rows: np.ndarray) -> Tensor:
        """Return rows as images `(B, C, H, W)`, in a type that torch has."""
        if rows.dtype.kind == "u" and rows.dtype.itemsize > 1:
            rows = rows.astype(np.int64)
        values = tensor_of(rows, str(self.path))
        return values[:, None] if self.layout == "nhw" else values.movedim(3, 1) if self.layout == "nhwc" else values
