"""Check images that a user passes to a model, and scale them to [−1, 1]."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hebm.data.decode import ImageDecoder, Picture, Shape
from hebm.data.images import ArrayImages, shape_mismatch, to_unit_range
from hebm.errors import DataError

TOLERANCE = 1e-4
"""Largest distance of a float from [−1, 1] that counts as rounding. Such values are clamped."""


def given_images(images: Any, shape: Shape | None) -> ArrayImages:
    """Return images as a data set.

    Arguments:
        images: a tensor or array `(N, C, H, W)` of uint8 values or of floats in [−1, 1].
        shape: (C, H, W) that the model takes; None for any.

    Raises `DataError` if type, shape or range differ.
    """
    pixels = _tensor(images)
    _check_shape(pixels, shape)
    return ArrayImages(pixels if pixels.dtype == torch.uint8 else _in_range(pixels))


def converted_images(images: Any, decode: ImageDecoder, shape: Shape) -> Tensor:
    """Convert one or several PIL images or image files to a tensor `(N, C, H, W)` in [−1, 1].

    Arguments:
        images: PIL images, or paths of files.
        decode: decoder of the data set (`DatasetRecipe.decoder`).
        shape: (C, H, W) that the model takes.

    Raises `DataError` for other types, unreadable files, and images that do not have this shape after decoding.
    """
    several = [images] if isinstance(images, (Picture, str, Path)) else list(images)
    pixels = [_converted(image, i, decode, shape) for i, image in enumerate(several)]
    return to_unit_range(torch.stack(pixels)) if pixels else torch.empty(0, *shape)


def _converted(image: Any, i: int, decode: ImageDecoder, shape: Shape) -> Tensor:
    name = str(image) if isinstance(image, (str, Path)) else f"image {i}"
    pixels = decode(_content(image), name)
    channels, height, width = pixels.shape
    if (channels, height, width) != shape:
        raise shape_mismatch(name, (channels, height, width), shape)
    return pixels


def _content(image: Any) -> Picture | bytes:
    if isinstance(image, Picture):
        return image
    if not isinstance(image, (str, Path)):
        kind = type(image).__name__
        raise DataError(
            f"preprocess: expected a PIL image or the path of a file, got {kind}; convert arrays by Image.fromarray"
        )
    try:
        return Path(image).read_bytes()
    except OSError as error:
        raise DataError(f"{image}: cannot be read ({error.strerror}); give the path of an image file") from error


def _tensor(images: Any) -> Tensor:
    if isinstance(images, Picture) or (
        isinstance(images, (list, tuple)) and any(isinstance(i, Picture) for i in images)
    ):
        raise DataError("images: these are PIL images; convert them first: model.preprocess(images)")
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.ascontiguousarray(images))
    if not isinstance(images, Tensor):
        raise DataError(f"images: expected a tensor or an array (N, C, H, W), got {type(images).__name__}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise DataError(f"images: expected uint8, or floats in [-1, 1], got {images.dtype}; convert them first")
    return images.detach().cpu()


def _check_shape(pixels: Tensor, shape: Shape | None) -> None:
    found = tuple(pixels.shape)
    wanted = "(N, C, H, W)" if shape is None else f"(N, {', '.join(map(str, shape))})"
    if pixels.ndim != 4 or (shape is not None and found[1:] != tuple(shape)):
        raise DataError(f"images: expected shape {wanted}, got {found}{_hint(found, shape)}")
    if found[1] not in (1, 3):
        raise DataError(
            f"images: expected 1 or 3 channels, got shape {found}{_hint(found, (found[3], found[1], found[2]))}"
        )
    if not len(pixels):
        raise DataError(f"images: there are none, shape {found}; pass at least one")


def _hint(found: tuple[int, ...], shape: Shape | None) -> str:
    """Return advice for a wrong shape."""
    if len(found) == 3:
        several = found != shape and (shape is None or found[1:] == tuple(shape[1:]))
        lacking = "images[:, None]" if several else "images[None]"
        return f"; add the missing dimension: {lacking}"
    if shape is not None and found[1:] == (*shape[1:], shape[0]):
        return "; put the channels first: images.permute(0, 3, 1, 2)"
    return "; model.preprocess(pil_images) converts and resizes images as the run's data set does"


def _in_range(x: Tensor) -> Tensor:
    if not x.isfinite().all():
        raise DataError("images: they have NaN or infinite values; remove these images")
    low, high = float(x.min()), float(x.max())
    if low < -1 - TOLERANCE or high > 1 + TOLERANCE:
        fix = "pass uint8, or scale them: 2 * x - 1 from [0, 1], x / 127.5 - 1 from [0, 255]"
        raise DataError(f"images: values run from {low:g} to {high:g}, allowed is [-1, 1]; {fix}")
    if low >= 0 and high > 0:
        warnings.warn(
            f"images: values run from {low:g} to {high:g}, and are taken as images in [-1, 1] whose darkest pixel is "
            "mid-grey; if they are in [0, 1], pass 2 * x - 1",
            stacklevel=4,
        )
    return x.float().clamp(-1, 1)
