"""The items of a torch data set: images, or pairs of an image and a label, read when they are asked for.

`items_of` reads every item once. It checks that all images have one shape and type, and that reading an item again
gives the same image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from hebm.data.decode import pixels_of
from hebm.errors import DataError, HebmError
from hebm_plugins.datasets.label_arrays import to_labels
from hebm_plugins.datasets.pixel_arrays import Range, check_bits, check_values, tensor_of

SAMPLE = 32
"""How many items are read twice."""
_BYTES = (0.0, 255.0)


@attrs.frozen(eq=False)
class Items:
    """The images of a data set, all of one shape and type.

    Arguments:
        dataset: has `__len__` and `__getitem__`.
        name: what messages call it.
        shape: (N, C, H, W).
        dtype: of the pixels.
        labels: `(N,)` classes or `(N, A)` attributes, int64; None if items are images alone.
        fingerprint: SHA-256 (hex) of all pixels.
        sample: SHA-256 of the pixels of some items, by position.
    """

    dataset: Any
    name: str
    shape: tuple[int, int, int, int]
    dtype: torch.dtype
    labels: Tensor | None
    fingerprint: str
    sample: Mapping[int, bytes]

    def __len__(self) -> int:
        """Return N, the number of items."""
        return self.shape[0]

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the pixels of items `(B,)`, `(B, C, H, W)`. Raises `DataError` for a bad item."""
        rows = [self._row(i) for i in index.tolist()]
        return torch.stack(rows) if rows else torch.empty(0, *self.shape[1:], dtype=self.dtype)

    def _row(self, i: int) -> Tensor:
        pixels = _read(self.dataset, i, self.name)[0]
        _check_alike(pixels, self.shape[1:], self.dtype, f"{self.name}[{i}]")
        return pixels

    def changed(self) -> int | None:
        """Return the position of an item of the sample that now is another image; None if there is none."""
        return next((i for i, before in self.sample.items() if _hash(self._row(i)) != before), None)


def items_of(dataset: Any, stated: Range, name: str) -> Items:
    """Read every item of a data set once, and some of them twice.

    Arguments:
        dataset: map-style.
        stated: the range of the values.
        name: what messages call it.

    Raises `DataError` for items that cannot be read or used, with the position, and for images that are another one
    when they are read again.
    """
    n = _length(dataset, name)
    first, _ = _read(dataset, 0, name)
    sampled = set(torch.linspace(0, n - 1, min(SAMPLE, n)).long().tolist())
    sha = hashlib.sha256(repr((first.dtype, first.shape)).encode())
    sample: dict[int, bytes] = {}
    labels, high = [], 0.0
    for i in range(n):
        pixels, label = _read(dataset, i, name)
        _check_alike(pixels, tuple(first.shape), first.dtype, f"{name}[{i}]")
        whole = stated or (_BYTES if pixels.dtype == torch.uint8 else None)
        check_values(pixels.unsqueeze(0), whole, f"{name}[{i}]")
        digest = _hash(pixels)
        sha.update(digest)
        if i in sampled:
            sample[i] = digest
        labels.append(label)
        high = max(high, float(pixels.max()))
    check_bits(first.dtype, high, stated, name)
    channels, height, width = first.shape
    found = Items(
        dataset, name, (n, channels, height, width), first.dtype, _labels(labels, name), sha.hexdigest(), sample
    )
    _require_repeatable(found)
    return found


def _length(dataset: Any, name: str) -> int:
    """Return N. Raises `DataError` for what has no items by position."""
    if isinstance(dataset, DataLoader):
        raise DataError(f"{name}: is a DataLoader; pass the data set in it, {name}.dataset: hebm makes the batches")
    if isinstance(dataset, (Tensor, np.ndarray)):
        raise DataError(f"{name}: is {type(dataset).__name__}, not a data set; pass it to hebm.Tensors")
    lacking = [method for method in ("__len__", "__getitem__") if not hasattr(dataset, method)]
    if isinstance(dataset, IterableDataset) or lacking:
        why = "is an IterableDataset" if isinstance(dataset, IterableDataset) else f"has no {' and no '.join(lacking)}"
        fix = "training asks for images by position: stack them for hebm.Tensors, or write a map-style data set"
        raise DataError(f"{name}: {why}; {fix}")
    n = len(dataset)
    if n < 1:
        raise DataError(f"{name}: has no items; pass at least one image")
    return n


def _require_repeatable(items: Items) -> None:
    changed = items.changed()
    if changed is not None:
        raise DataError(
            f"{items.name}[{changed}]: changes when it is read again; pass the data set without random transforms "
            "(flip=True mirrors training images)"
        )


# ---------------------------------------------------------------- one item


def _read(dataset: Any, i: int, name: str) -> tuple[Tensor, Any]:
    """Return the pixels `(C, H, W)` of an item, and its label or None."""
    where = f"{name}[{i}]"
    try:
        item = dataset[i]
    except HebmError:
        raise
    except Exception as error:  # anyone's code, which may raise anything
        cause = f"{type(error).__name__}: {error}".rstrip(": ")
        raise DataError(f"{where}: cannot be read ({cause}); fix the data set, or leave this item out") from error
    image, label = item, None
    if isinstance(item, (tuple, list)) and len(item) in (1, 2):
        image, label = (*item, None)[:2]
    if not isinstance(image, (Image.Image, Tensor, np.ndarray)):
        shown = (
            f"a dict with the keys {', '.join(map(str, image))}" if isinstance(image, dict) else type(image).__name__
        )
        fix = "an item must be an image, or (image, label); wrap the data set so that it returns these"
        raise DataError(f"{where}: is {shown}; {fix}")
    return _pixels(image, where), label


def _pixels(image: Any, where: str) -> Tensor:
    if isinstance(image, Image.Image):
        if image.mode not in ("1", "L", "RGB"):
            fix = 'convert it in the data set: image.convert("L") or image.convert("RGB")'
            raise DataError(f"{where}: is a PIL image of mode {image.mode}; {fix}")
        return pixels_of(image.convert("L") if image.mode == "1" else image)
    pixels = tensor_of(image, where)
    shape = tuple(pixels.shape)
    pixels = pixels.unsqueeze(0) if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or not pixels.numel():
        fix = "expected (H, W), or (C, H, W) with 1 or 3 channels"
        last = pixels.ndim == 3 and pixels.shape[2] in (1, 3)
        fix += "; the channels seem to be last: move them to the front in the data set" if last else ""
        raise DataError(f"{where}: has shape {shape}; {fix}")
    return pixels


def _check_alike(pixels: Tensor, shape: Sequence[int], dtype: torch.dtype, where: str) -> None:
    if tuple(pixels.shape) != tuple(shape):
        fix = "resize all images to one size in the data set"
        raise DataError(f"{where}: has shape {tuple(pixels.shape)}, the first image {tuple(shape)}; {fix}")
    if pixels.dtype != dtype:
        raise DataError(f"{where}: holds {pixels.dtype}, the first image {dtype}; convert all images to one type")


def _hash(pixels: Tensor) -> bytes:
    return hashlib.sha256(pixels.contiguous().view(torch.uint8).numpy().reshape(-1).data).digest()


# ---------------------------------------------------------------- labels


def _labels(labels: Sequence[Any], name: str) -> Tensor | None:
    """Return the labels of all items as one tensor; None if no item has one. Raises `DataError` for other labels."""
    if all(label is None for label in labels):
        return None
    found = [_label(label, f"{name}[{i}]") for i, label in enumerate(labels)]
    odd = next((i for i, label in enumerate(found) if label.shape != found[0].shape), None)
    if odd is not None:
        shapes = f"{tuple(found[odd].shape)}, the first label has {tuple(found[0].shape)}"
        raise DataError(f"{name}[{odd}]: its label has shape {shapes}; give all items the same attributes")
    return to_labels(np.stack(found), f"labels of {name}")


def _label(label: Any, where: str) -> np.ndarray:
    """Return a label as an array `()` or `(A,)` of integers."""
    try:
        array = np.asarray(label)
    except (ValueError, TypeError, RuntimeError):
        array = np.empty((), object)
    if array.dtype.kind in "iub" and array.ndim <= 1 and label is not None:
        return array
    shown = repr(label) if isinstance(label, (str, float)) else type(label).__name__
    fix = "a label must be an integer (a class), or a row of 0 and 1 (attributes); change it, or return images alone"
    raise DataError(f"{where}: its label is {shown}; {fix}")
