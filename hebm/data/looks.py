"""Inspect some of the image files in a folder or archive: their sizes, and whether they have colour."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import attrs
import torch
from torch import Tensor

from hebm.data.archives import is_archive, open_files
from hebm.data.corrupt import decoded
from hebm.data.decode import CorruptImage, Decoder
from hebm.data.files import Files
from hebm.data.image_names import advice_for_other_data
from hebm.errors import DataError

MOST = 300
"""Largest number of files to inspect in a folder or archive. Each further archive may add one file."""
_FAINT = 6
"""Largest difference of a grey pixel's channels, of 255. JPEG does not keep them equal."""
_NEARLY = 32
"""Distance from black or white, of 255, below which a pixel counts as nearly black or white."""
_TWO_TONE = 0.8
"""Share of nearly black or white pixels from which images count as two-tone."""


@attrs.frozen
class Looks:
    """Properties of some image files.

    Arguments:
        files: number of all image files.
        sizes: (width, height) of the inspected files, after rotation by EXIF.
        coloured: number of inspected files with colour.
        black_or_white: mean share of pixels that are nearly black or white.
        unreadable: number of further files that could not be read.
    """

    files: int
    sizes: tuple[tuple[int, int], ...]
    coloured: int
    black_or_white: float
    unreadable: int

    @property
    def side(self) -> int:
        """Return the median of the images' shorter sides, in pixels."""
        return round(median(min(size) for size in self.sizes))

    @property
    def channels(self) -> int:
        """Return 3 if any image has colour, else 1."""
        return 3 if self.coloured else 1

    @property
    def two_tone(self) -> bool:
        """Return whether the images are grey and most of their pixels are nearly black or white."""
        return not self.coloured and self.black_or_white >= _TWO_TONE

    def __str__(self) -> str:
        widths, heights = zip(*self.sizes, strict=True)
        size = f"{min(widths)}×{min(heights)}"
        if len(set(self.sizes)) > 1:
            size = f"{size} to {max(widths)}×{max(heights)}"
        kinds = {0: "grey", len(self.sizes): "colour"}
        colours = kinds.get(self.coloured, f"{self.coloured} of {len(self.sizes)} in colour, the others grey")
        colours = f"{colours}, nearly all pixels black or white" if self.two_tone else colours
        looked = f"{self.files:,} image files; {len(self.sizes)} looked at: {size} pixels, {colours}"
        return f"{looked}; {self.unreadable} cannot be read" if self.unreadable else looked


def look(root: Path) -> Looks:
    """Inspect some of the images in a folder, in an archive, or in the archives of a folder.

    Arguments:
        root: the folder or archive.

    Raises `DataError` if no image is found or none can be read.
    """
    places = _places(root)
    total = sum(len(files.names) for files in places)
    sizes, coloured, shares, unreadable = [], 0, [], 0
    for files in places:
        few = files.names[:: max(1, -(-total // MOST))]
        for _, pixels in decoded(files, few, Decoder(channels=3)):
            if isinstance(pixels, CorruptImage):
                unreadable += 1
                continue
            sizes.append((pixels.shape[2], pixels.shape[1]))
            coloured += _has_colour(pixels)
            shares.append(_black_or_white(pixels))
    if not sizes:
        kind = f"none of {unreadable} files can be read as an image" if unreadable else "no image files"
        raise DataError(f"{root}: {kind}; {advice_for_other_data(root) or 'give a folder, .zip or .tar of images'}")
    return Looks(total, tuple(sizes), coloured, sum(shares) / len(shares), unreadable)


def _places(root: Path) -> list[Files]:
    """Return the folder or archive, or the archives in a folder without images."""
    files = open_files(root, "--data")
    if files.names or not root.is_dir():
        return [files]
    return [open_files(path, "--data") for path in sorted(root.iterdir()) if is_archive(path)]


def _has_colour(pixels: Tensor) -> bool:
    channels = pixels.to(torch.int16)
    return bool((channels.amax(0) - channels.amin(0)).max() > _FAINT)


def _black_or_white(pixels: Tensor) -> float:
    grey = pixels.float().mean(0)
    return float(((grey < _NEARLY) | (grey > 255 - _NEARLY)).float().mean())
