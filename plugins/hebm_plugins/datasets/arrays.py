"""One's own images as NumPy arrays: .npy, or .npz with one array per key."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from hebm.config.recipes import option, recipe
from hebm.data.array_files import mapped_array, names_in
from hebm.data.dataset_recipe import ImageData
from hebm.data.file_facts import FileFacts
from hebm.errors import ConfigError, DataError
from hebm_plugins.datasets.from_python import PassedImages
from hebm_plugins.datasets.label_arrays import complaints_about, names_of, to_labels
from hebm_plugins.datasets.mapped_pixels import MappedPixels
from hebm_plugins.datasets.pixel_arrays import ROUNDING, Range
from hebm_plugins.datasets.splits import hold_out_numbers

_ATTRIBUTES = "attributes"
_BOUNDS = {"uint8": (0, 255), "unit": (0, 1), "symmetric": (-1, 1)}


def _is_file(data: Arrays) -> bool:
    """Return whether `train` and its like name files; with `path` they are keys in it."""
    return data.path is None


@recipe
class Arrays(ImageData):
    """Images from .npy or .npz files, which are mapped into memory. Object arrays (pickles) are refused.

    A compressed .npz is read as a whole. Files of over 64 MiB are read once to check the range of their values and to
    hash them, and the results are stored in `run.cache_folder` until the file changes.

    With `path`, one .npz: `train`, `test` and the labels are its keys; its key `attributes`, where there is one, names
    the columns of labels `(N, A)`. Without, each is a file: an .npy, or an .npz that holds one array.
    """

    path: str | None = option(None, doc="one .npz with everything; the options below are then its keys", path=True)
    train: str = option("train", doc="the training images: a file, or a key of path", path=_is_file)
    test: str | None = option(
        None, doc="the test images: a file, or a key of path; left out: a part of train is held out", path=_is_file
    )
    train_labels: str | None = option(
        None,
        doc="labels of the training images, (N,) classes or (N, A) attributes of 0 and 1: a file, or a key of path",
        path=_is_file,
    )
    test_labels: str | None = option(None, doc="labels of the test images: a file, or a key of path", path=_is_file)
    layout: str = option("auto", doc="order of the axes", choices=("auto", "nhwc", "nchw", "nhw"))
    range: str = option(
        "auto",
        doc="what the values mean: 0 … 255, 0 … 1 or −1 … 1; auto reads uint8 as 0 … 255 and bool as 0 … 1, and "
        "refuses other types",
        choices=("auto", "uint8", "unit", "symmetric"),
    )
    label_names: tuple[str, ...] = option(
        (), doc="names of the classes or attributes, in order; left out: classes 0 … K − 1 without a gap, or numbers"
    )
    holdout: float = option(0.1, doc="fraction of train held out as test if `test` is left out", low=0, high=0.9)

    def source(self, split: str) -> MappedImages:
        """Return the images of a split, in the array's order, which are read from the file when they are asked for."""
        if self.test is None and self.test_labels is not None:
            raise ConfigError("data.test_labels is set, but data.test is not: set both, or neither")
        own = split == "test" and self.test is not None
        name = self.test if own and self.test is not None else self.train
        array, where, path, key = self._array(name, "test" if own else "train")
        if not array.size:
            raise DataError(f"{where}: shape {array.shape} holds no values; save at least one image")
        if array.dtype.kind not in "buif":
            raise DataError(f"{where}: holds {array.dtype}, expected numbers; save images as uint8 or float32")
        pixels, facts = MappedPixels(array, _checked_layout(array, self.layout, where), path, key), FileFacts.of(path)
        span = facts.get(f"span of {key}", lambda: tuple(map(repr, pixels.span())))
        stated = _stated_range(pixels.dtype, (float(span[0]), float(span[1])), self.range, where)
        labels = self._labels(own)
        if labels is not None and len(labels) != len(pixels):
            raise DataError(f"{name}: {len(pixels)} images, but {len(labels)} labels; check data.{split}_labels")
        index = torch.arange(len(pixels))
        if self.test is None:
            index = hold_out_numbers(len(pixels), self.holdout, split)
        own_labels = None if labels is None else labels[index]
        return MappedImages(pixels, index, stated, own_labels, self._names(), facts)

    def _array(self, name: str, option_name: str) -> Opened:
        """Return an array with its name for messages and its place."""
        if self.path is not None:
            return _opened(Path(self.path), name, option_name)
        return _opened(Path(name), None, option_name)

    def _labels(self, own_test: bool) -> Tensor | None:
        name = self.test_labels if own_test else self.train_labels
        if name is None:
            return None
        opened = self._array(name, "test_labels" if own_test else "train_labels")
        return to_labels(opened.array, opened.where)

    def _names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of the classes and those of the attributes, from the training labels.

        Raises `DataError` for labels with gaps, or that do not fit those of the test images or the names.
        """
        train, test = self._labels(own_test=False), self._labels(own_test=True)
        given = {name: some for name, some in (("labels", train), ("test_labels", test)) if some is not None}
        stated = self.label_names
        if train is not None and train.ndim == 2 and not stated and self.path:
            stated = _stored_names(Path(self.path), train.shape[1])
        complaints = complaints_about({name: some for name, some in given.items() if len(some)}, stated)
        if complaints:
            raise DataError("\n  ".join(f"{self.path or self.train}: {complaint}" for complaint in complaints))
        return names_of(train, stated)


class Opened(NamedTuple):
    """An array, what messages call it, its file, and its key in an .npz."""

    array: np.ndarray
    where: str
    path: Path
    key: str | None


def _opened(path: Path, key: str | None, option_name: str) -> Opened:
    """Open an array.

    Arguments:
        path: an .npy, or an .npz.
        key: of an array in an .npz; None for an .npy, or an .npz that holds one.
        option_name: the key of the configuration that names the array.

    Raises `DataError` for a file that is missing or damaged, and for a key that is not in it.
    """
    if not path.is_file():
        what = "path" if key is not None else option_name
        raise DataError(f"{path.absolute()}: no such file; set data.{what} to an .npy or .npz file")
    if not zipfile.is_zipfile(path):
        array = mapped_array(path)
        if key is not None:
            fix = "name this file in data.train instead of data.path"
            raise DataError(f"{path}: is an .npy, but data.path must be an .npz; {fix}")
        return Opened(array, str(path), path, None)
    names = names_in(path)
    keys = ", ".join(names)
    if key is None and len(names) != 1:
        raise DataError(
            f"{path}: holds {len(names)} arrays ({keys}); set data.path to this file and data.train to a key"
        )
    if key is not None and key not in names:
        raise DataError(f"{path}: has no array {key!r}; set data.{option_name} to one of: {keys}")
    name = names[0] if key is None else key
    return Opened(mapped_array(path, name), f"{path}[{name}]", path, name)


def _stored_names(path: Path, count: int) -> tuple[str, ...]:
    """Return the names under the key `attributes` of an .npz, or none."""
    if _ATTRIBUTES not in names_in(path):
        return ()
    array, where, *_ = _opened(path, _ATTRIBUTES, "path")
    if array.dtype.kind != "U" or array.shape != (count,):
        needed = f"an array of {count} strings, one name per column of the labels"
        raise DataError(f"{where}: must be {needed}; got {array.dtype} of shape {array.shape}")
    return tuple(map(str, array.tolist()))


class MappedImages(PassedImages):
    """Images in a file, which are read and scaled when they are asked for.

    Arguments:
        pixels: all images of the file.
        index, stated, labels, names: see `PassedImages`.
        facts: what is known of the file.
    """

    pixels: MappedPixels

    def __init__(
        self,
        pixels: MappedPixels,
        index: Tensor,
        stated: Range,
        labels: Tensor | None,
        names: tuple[tuple[str, ...], tuple[str, ...]],
        facts: FileFacts,
    ) -> None:
        super().__init__(pixels, index, stated, labels, names, "")
        self.facts = facts

    @override
    def fingerprint(self) -> str:
        """Hash type, range and all values of the split, a few rows at a time."""
        rows = hashlib.sha256(self.index.numpy().data).hexdigest()
        what = json.dumps(["pixels", self.pixels.key, self.pixels.layout, str(self.pixels.dtype), self.stated, rows])
        (found,) = self.facts.get(what, lambda: (self._hash(),))
        return self.digest(bytes.fromhex(found), *self.attribute_digest())

    def _hash(self) -> str:
        sha = hashlib.sha256(repr((str(self.pixels.dtype), self.stated)).encode())
        for few in torch.split(self.index, self.pixels.rows_at_once):
            sha.update(self.pixels[few].contiguous().view(torch.uint8).numpy().reshape(-1).data)
        return sha.hexdigest()


def _checked_layout(array: np.ndarray, layout: str, where: str) -> str:
    """Return the order of the axes. Raises `DataError` if the array does not have it, or neither 1 nor 3 channels."""
    if layout == "auto":
        layout = _guess_layout(array, where)
    if array.ndim != len(layout):
        fix = f"data.layout = {layout!r} needs {len(layout)}; choose nhw, nhwc or nchw"
        raise DataError(f"{where}: shape {array.shape} has {array.ndim} axes, {fix}")
    channels = array.shape[layout.index("c")] if "c" in layout else 1
    if channels not in (1, 3):
        fix = "drop transparency, or set data.layout"
        raise DataError(f"{where}: shape {array.shape} as {layout} has {channels} channels, not 1 or 3; {fix}")
    return layout


def _guess_layout(array: np.ndarray, where: str) -> str:
    if array.ndim == 3 and array.shape[2] in (1, 3, 4) and array.shape[1] != array.shape[2]:
        shape, fix = array.shape, 'save it as array[None], or set data.layout = "nhw"'
        raise DataError(f"{where}: shape {shape} could be one colour image or {shape[0]} grey ones; {fix}")
    if array.ndim == 3:
        return "nhw"
    possible = [name for name, axis in (("nchw", 1), ("nhwc", 3)) if array.ndim == 4 and array.shape[axis] in (1, 3)]
    if len(possible) == 1:
        return possible[0]
    why = "could be either nchw or nhwc" if possible else "is neither (N, H, W) nor has 1 or 3 channels"
    raise DataError(f"{where}: shape {array.shape} {why}; set data.layout to nhw, nhwc or nchw")


def _stated_range(dtype: torch.dtype, span: tuple[float, float], value_range: str, where: str) -> Range:
    """Return the values that are black and white; None for bytes. Raises `DataError` for values outside."""
    low, high = span
    found = f"values run from {low:g} to {high:g}"
    if value_range == "auto":
        value_range = _range_of_type(dtype, high, f"{where}: {found}")
    bounds = _BOUNDS[value_range]
    rounding = ROUNDING * (bounds[1] - bounds[0]) if dtype.is_floating_point else 0
    if not (bounds[0] - rounding <= low and high <= bounds[1] + rounding):  # NaN fails every comparison
        raise DataError(f"{where}: {found}, but data.range = {value_range!r} allows {list(bounds)}; set data.range")
    return None if value_range == "uint8" and dtype == torch.uint8 else bounds


def _range_of_type(dtype: torch.dtype, high: float, found: str) -> str:
    """Return the range that a type stands for. Raises `DataError` for a type that may have any."""
    if dtype == torch.bool:
        return "unit"
    if dtype == torch.uint8 and high > 1:
        return "uint8"
    fix = 'set data.range to "uint8" (0 … 255), "unit" (0 … 1) or "symmetric" (−1 … 1), or rescale them'
    kind = str(dtype).removeprefix("torch.")
    raise DataError(f"{found} and are {kind}: their range cannot be told; {fix}")
