"""Write grids of images as PNG files. Small images are enlarged by a whole factor, which keeps pixels sharp."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from hebm.pixel_levels import to_pixels
from hebm.store.durable import replace_file, reporting

SMALLEST = 32
"""Smallest side of an image in a grid, in pixels of the PNG."""

_GAP = 2
_BROKEN = (214, 39, 40)


def grid(images: Tensor, columns: int = 8) -> Image.Image:
    """Draw images `(N, C, H, W)` in [−1, 1] as one picture, row by row. Values outside the range are clipped.

    An image with a NaN or an infinity becomes a red tile.
    """
    return Image.fromarray(tiled(images.detach().float().cpu(), columns).permute(1, 2, 0).numpy())


def save_grid(images: Tensor, path: Path, columns: int = 8) -> None:
    """Write the picture that `grid` draws as a PNG file. Raises `CheckpointError` if it cannot be written."""
    buffer = io.BytesIO()
    grid(images, columns).save(buffer, "PNG")
    with reporting(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, buffer.getvalue())


def save_strip(frames: Sequence[Tensor], path: Path) -> None:
    """Write a grid with chain i in row i and `frames[k]`, `(N, C, H, W)` in [−1, 1], in column k."""
    save_grid(torch.stack(list(frames), dim=1).flatten(0, 1), path, len(frames))


def tiled(images: Tensor, columns: int) -> Tensor:
    """Return the grid of images `(N, C, H, W)` in [−1, 1] as uint8 `(3, height, width)`, with white gaps."""
    tiles = enlarged(_coloured(images))
    columns = max(1, min(columns, len(tiles)))
    height, width = (side + _GAP for side in tiles.shape[2:])
    whole_width, whole_height = grid_size(len(images), images.shape[2:], columns)
    picture = torch.full((3, whole_height, whole_width), 255, dtype=torch.uint8)
    for i, tile in enumerate(tiles):
        top, left = _GAP + i // columns * height, _GAP + i % columns * width
        picture[:, top : top + tile.shape[1], left : left + tile.shape[2]] = tile
    return picture


def grid_size(n: int, sides: Sequence[int], columns: int = 8) -> tuple[int, int]:
    """Return the width and height, in pixels, of the picture that `grid` draws.

    Arguments:
        n: number of images.
        sides: (H, W) of each image.
        columns: number of images per row.

    Example:
        >>> grid_size(9, (28, 28))
        (466, 118)
    """
    factor, columns = _factor(sides), max(1, min(columns, n))
    height, width = (side * factor + _GAP for side in sides)
    return columns * width + _GAP, -(-n // columns) * height + _GAP


def enlarged(pixels: Tensor) -> Tensor:
    """Enlarge images `(N, C, H, W)` by repeating pixels until the shorter side is at least `SMALLEST`."""
    factor = _factor(pixels.shape[2:])
    return pixels.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def _factor(sides: Sequence[int]) -> int:
    """Return how often to repeat each pixel of an image with these sides."""
    return max(1, -(-SMALLEST // min(sides)))


def _coloured(images: Tensor) -> Tensor:
    broken = ~images.flatten(1).isfinite().all(1)
    pixels = to_pixels(images.nan_to_num()).expand(-1, 3, -1, -1).clone()
    pixels[broken] = torch.tensor(_BROKEN, dtype=torch.uint8).view(3, 1, 1)
    return pixels
