"""Read images to measure from a folder or an archive of image files, or from an `.npz` of 8-bit pixels.

Images are neither converted nor resized, because that would change the measurements.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from torch import Tensor

from hebm.config.paths import expanded
from hebm.data.archives import is_archive, open_files
from hebm.data.array_files import mapped_array, names_in
from hebm.data.decode import Decoder, Shape
from hebm.data.files import Files
from hebm.data.given import given_images
from hebm.data.image_names import IMAGES
from hebm.data.images import ArrayImages, Images, LazyImages
from hebm.errors import DataError

_ARRAYS = ("images", "arr_0")


def read_samples(source: Any, shape: Shape) -> Images:
    """Return images to measure. Files are sorted by name.

    Arguments:
        source: path of a folder, an archive or an `.npz`; or a tensor or array `(N, C, H, W)`, uint8 or floats in
            [−1, 1].
        shape: (C, H, W) of the reference data set.

    Raises `DataError` for images of another shape, a damaged file, or a source without images. Image files are decoded
    on each read, and raise their errors then.
    """
    if not isinstance(source, (str, Path)):
        return given_images(source, shape)
    path = Path(expanded(str(source)))
    if path.suffix.lower() == ".npz" and path.is_file():
        return _of_arrays(path, shape)
    if path.is_dir() or (path.is_file() and is_archive(path)):
        return SampleFiles(open_files(path, "the images to measure"), shape)
    wrong = "is not a folder of images, a .zip, a .tar or an .npz" if path.exists() else "no such folder or file"
    raise DataError(f"{path}: {wrong}; give a folder of images, a .zip, a .tar or an .npz of uint8 pixels")


# ---------------------------------------------------------------- image files


@attrs.frozen
class _Decoding:
    """Decodes a file by its position. It is a class so that workers can pickle it.

    Arguments:
        files: the folder or archive.
        shape: required shape (C, H, W).
    """

    files: Files
    shape: Shape

    def __call__(self, i: int) -> Tensor:
        """Decode file i. Raises `DataError` if it is damaged or has another shape."""
        name = self.files.names[i]
        path = self.files.describe(name)
        data = self.files.read(name)
        try:
            pixels = Decoder()(data, path)
        except DataError as error:
            cause = str(error).partition("; ")[0]  # without the advice, which is for data sets
            raise DataError(f"{cause}; save it again as 8-bit grey or RGB, or remove it") from error
        if tuple(pixels.shape) != self.shape:
            raise _other_shape(path, tuple(pixels.shape), self.shape)
        return pixels


class SampleFiles(LazyImages):
    """Image files of one shape, without conversion.

    Arguments:
        files: the folder or archive.
        shape: required shape (C, H, W).

    Raises `DataError` if there are no image files.
    """

    def __init__(self, files: Files, shape: Shape) -> None:
        if not files.names:
            raise DataError(f"{files.path}: no image files; put {', '.join(IMAGES[:3])} files there, or name another")
        self.files = files
        decode = _Decoding(files, shape)
        super().__init__(len(files.names), decode, names=files.names, where=f"{files.path}/", shape=shape)


# ---------------------------------------------------------------- arrays


def _of_arrays(path: Path, shape: Shape) -> ArrayImages:
    array = torch.from_numpy(np.array(_array(path)))
    if array.ndim == 3 and shape[0] == 1:
        array = array.unsqueeze(1)
    if array.ndim != 4:
        raise DataError(f"{path}: expected images (N, H, W, C) or (N, C, H, W), got shape {tuple(array.shape)}")
    channels, height, width = shape
    if tuple(array.shape[1:]) == (height, width, channels):
        array = array.permute(0, 3, 1, 2)
    if tuple(array.shape[1:]) != shape:
        last = array.shape[3] in (1, 3) and array.shape[1] not in (1, 3)
        found = tuple(array.permute(0, 3, 1, 2).shape if last else array.shape)[1:]
        raise _other_shape(str(path), found, shape)
    return ArrayImages(array)


class NpzImages(ArrayImages):
    """Images of an `.npz`, with a name for each, such as `samples.npz:0`.

    Arguments:
        path: file with uint8 pixels as `images` or `arr_0`, such as `hebm sample` writes.
        shape: required shape (C, H, W).

    Raises `DataError` for other content or images of another shape.
    """

    def __init__(self, path: Path, shape: Shape) -> None:
        try:
            super().__init__(_of_arrays(path, shape).pixels)
        except DataError as error:
            cause = str(error).partition("; ")[0]  # without the advice, which is for data sets
            fix = f"give an .npz with uint8 images of shape (N, H, W, C), for this run {(*shape[1:], shape[0])} each"
            raise DataError(f"{cause}; {fix}") from error
        if not len(self):
            raise DataError(f"{path}: has no images; give an .npz with at least one")
        self.names = [f"{path}:{i}" for i in range(len(self))]


def _array(path: Path) -> np.ndarray[Any, Any]:
    names = names_in(path)
    name = next((name for name in _ARRAYS if name in names), None)
    if name is None:
        hint = "; this is a file of moments: give it to --stats" if {"mu", "sigma"} <= set(names) else ""
        found, expected = ", ".join(names) or "no arrays", " or ".join(map(repr, _ARRAYS))
        raise DataError(f"{path}: has {found}, expected an array {expected} of images{hint}")
    array = mapped_array(path, name)
    if array.dtype != np.uint8:
        raise DataError(f"{path}: {name} holds {array.dtype}, expected uint8 pixels from 0 to 255")
    return array


def _other_shape(name: str, found: tuple[int, ...], shape: Shape) -> DataError:
    if found[0] != shape[0]:
        return DataError(
            f"{name}: has {found[0]} channel(s), the data's images have {shape[0]}; convert the images, or set "
            f"data.channels = {found[0]} to convert the data"
        )
    return DataError(
        f"{name}: is {found[2]}×{found[1]} pixels, the data's images are {shape[2]}×{shape[1]}; images are not resized "
        "here, because that would change the measurements: save them in the data's size, or change data.size"
    )
