"""Decode image files to pixels `(C, H, W)`, uint8, C = 1 or 3. Images are converted only if options request it.

The steps in order: rotate by the EXIF orientation, convert the mode, cut out `crop`, resize the shorter side to `size`
(bilinear, antialiased), cut out the centre square.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import TypeAlias

import attrs
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from hebm.errors import DataError

Picture: TypeAlias = Image.Image

ImageDecoder: TypeAlias = Callable[["bytes | Picture", str], Tensor]
"""Maps an encoded file or an opened image, and its name for messages, to pixels `(C, H, W)`, uint8."""

Shape: TypeAlias = tuple[int, int, int]
"""(C, H, W) of an image."""

MOST_PIXELS = 178_956_970
"""Default of the largest number of pixels of an image, as in Pillow."""

# Exceptions that PIL raises on damaged files.
DAMAGE: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
)

_PLAIN = {"1": "L", "L": "L", "RGB": "RGB"}
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I")
_KINDS = {
    **{"LA": "alpha", "La": "alpha", "RGBA": "alpha", "RGBa": "alpha", "PA": "a palette", "P": "a palette"},
    **dict.fromkeys(_DEEP, "16 bits per value"),
}


class CorruptImage(DataError):
    """Raised for a file that is damaged or not an image.

    Arguments:
        reason: the file's name and the error.
        fix: advice.
    """

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason, fix)
        self.reason, self.fix = reason, fix

    def __str__(self) -> str:
        return f"{self.reason}; {self.fix}" if self.fix else self.reason


@attrs.frozen
class Decoder:
    """Converts an image file to pixels.

    Arguments:
        channels: number of channels to convert to, 1 or 3: colour becomes luma, grey three equal channels, palettes
            their colours, 16-bit values 8-bit ones, and transparency is laid over white. None accepts only grey and
            RGB images, without conversion.
        size: side of the resulting square image in pixels; None keeps the size.
        crop: the part to cut out before resizing: side of a centre square, or a box (left, top, right, bottom).
        ready: (width, height) of images that may have been cropped before. If too small for `crop`, they are not
            cropped again.
        max_pixels: largest number of pixels; larger images are refused before they are decoded.
    """

    channels: int | None = None
    size: int | None = None
    crop: int | tuple[int, int, int, int] | None = None
    ready: tuple[int, int] | None = None
    max_pixels: int = MOST_PIXELS

    def __call__(self, data: bytes | Picture, name: str) -> Tensor:
        """Return the pixels `(C, H, W)`, uint8, of an encoded file or an opened image.

        Arguments:
            data: the file's bytes, or a PIL image.
            name: name of the file in messages.

        Raises:
            DataError: for a mode that needs `channels`, a crop beyond the image, or too many pixels.
            CorruptImage: for a file that is damaged or not an image.
        """
        return pixels_of(self._cut(self._convert(opened(data, name, self.max_pixels), name), name))

    def _convert(self, picture: Picture, name: str) -> Picture:
        mode = picture.mode
        if mode == "F":
            raise DataError(f"{name}: holds floating-point values; save them as .npy and use data set arrays")
        wanted = _PLAIN.get(mode) if self.channels is None else {1: "L", 3: "RGB"}[self.channels]
        if wanted is None or (self.channels is None and "transparency" in picture.info):
            kind = _KINDS.get(mode, "transparency" if mode in _PLAIN else "another colour space")
            fix = "set data.channels = 1 (grey) or 3 (colour) to convert all images"
            raise DataError(f"{name}: mode {mode} ({kind}) has no obvious 8-bit grey or RGB form; {fix}")
        if mode in _DEEP:
            picture = _eight_bits(picture, name)
        elif _KINDS.get(mode) == "alpha" or mode == "PA" or "transparency" in picture.info:
            rgba = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        return picture if picture.mode == wanted else picture.convert(wanted)

    def _cut(self, picture: Picture, name: str) -> Picture:
        if self.crop is not None:
            box = self.crop if isinstance(self.crop, tuple) else _centre(picture.size, self.crop)
            outside = box[0] < 0 or box[1] < 0 or box[2] > picture.width or box[3] > picture.height
            if outside and picture.size == self.ready:
                return picture
            if outside:
                size = f"{picture.width}×{picture.height} pixels"
                raise DataError(f"{name}: is {size}, smaller than data.crop = {self.crop}; choose a smaller crop")
            picture = picture.crop(box)
        if self.size is None or picture.size == (self.size, self.size):
            return picture
        ratio = self.size / min(picture.size)
        width, height = (max(self.size, round(side * ratio)) for side in picture.size)
        resized = picture.resize((width, height), Image.Resampling.BILINEAR)
        return resized.crop(_centre(resized.size, self.size))


def opened(data: bytes | Picture, name: str, max_pixels: int = MOST_PIXELS) -> Picture:
    """Open an image file, and rotate it by its EXIF orientation. An opened image is only rotated.

    Arguments:
        data: the file's bytes, or a PIL image.
        name: name of the file in messages.
        max_pixels: largest number of pixels; a file whose header has more is refused before it is decoded.

    Raises:
        CorruptImage: for a file that is damaged or not an image.
        DataError: for too many pixels.
    """
    try:
        picture = _unlimited(data) if isinstance(data, bytes) else data
        if isinstance(data, bytes) and picture.width * picture.height > max_pixels:
            size = f"{picture.width:,} × {picture.height:,} pixels, more than data.max_pixels = {max_pixels:,}"
            raise DataError(f"{name}: has {size}; raise data.max_pixels if it is a real image, or remove it")
        picture.load()
        return ImageOps.exif_transpose(picture) if picture.info.get("exif") else picture
    except DAMAGE as error:
        # PIL's message has the address of a buffer, which does not help users.
        cause = "not an image format that Pillow knows" if "cannot identify" in str(error) else error
        fix = 'fix or remove it, or set data.corrupt = "skip" (image-folder) to leave such files out'
        raise CorruptImage(f"{name}: cannot be read as an image ({cause})", fix) from error


def _unlimited(data: bytes) -> Picture:
    """Open a file without Pillow's global limit of pixels. Only the header is read here, so this is safe."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        return Image.open(io.BytesIO(data))
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def pixels_of(image: Picture | Tensor) -> Tensor:
    """Return the pixels `(C, H, W)` of a PIL image in mode L or RGB; a tensor is returned unchanged."""
    if isinstance(image, Tensor):
        return image
    array = torch.from_numpy(np.array(image, dtype=np.uint8))
    return array.unsqueeze(0) if array.ndim == 2 else array.permute(2, 0, 1)


def _eight_bits(picture: Picture, name: str) -> Picture:
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        span = f"{values.min()} to {values.max()}"
        raise DataError(
            f"{name}: values {span} do not fit 16-bit grey (0 to 65535); save the images as .npy for data set arrays"
        )
    return Image.fromarray(np.round(values / 257).astype(np.uint8))


def _centre(size: tuple[int, int], side: int) -> tuple[int, int, int, int]:
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return left, top, left + side, top + side
