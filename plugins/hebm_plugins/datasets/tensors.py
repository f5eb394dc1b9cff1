"""The data set `tensors`: images in memory, passed in Python."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from hebm.config.recipes import live, recipe
from hebm.errors import DataError
from hebm_plugins.datasets.from_python import FromPython, Passed, misfits
from hebm_plugins.datasets.label_arrays import complaints_about, to_labels
from hebm_plugins.datasets.pixel_arrays import check_values, tensor_of, to_nchw

_CHUNK = 1 << 24
_LABELS = {"labels": "train", "test_labels": "test"}


@recipe
class Tensors(FromPython):
    """Images in memory, passed in Python: `hebm.Tensors(train, test, labels, test_labels, range=(0, 1))`.

    Images are torch tensors or NumPy arrays `(N, H, W)` or `(N, C, H, W)` with 1 or 3 channels: uint8, or floats with
    a `range`. Labels are classes, integers `(N,)`, or attributes `(N, A)` of 0 and 1.

    Without `test`, a tenth of the images is held out with their labels. The choice depends on N alone, not on the
    run's seed, and is the same as for the data set `arrays`.

    Training reads the passed memory and does not copy it, so do not change it in place. A change before training starts
    raises an error there. Pass `train.clone()` if you need to modify the original.
    """

    train: Any = live(doc="training images")
    test: Any = live(doc="test images; by default a tenth of train is held out")
    labels: Any = live(doc="labels of the training images")
    test_labels: Any = live(doc="labels of the test images")

    def passed(self) -> Passed:
        """Return images and labels. The images share the memory that was passed."""
        return Passed(*self._tensors)

    def content_fingerprint(self) -> str:
        """Hash all values, types and shapes."""
        sha = hashlib.sha256()
        for kind, tensors in zip(("images", "labels"), self._tensors, strict=True):
            for split, tensor in tensors.items():
                sha.update(repr((kind, split, str(tensor.dtype), tuple(tensor.shape))).encode())
                for chunk in _chunks(tensor):
                    sha.update(chunk.contiguous().view(torch.uint8).numpy().reshape(-1).data)
        return sha.hexdigest()

    def require_unchanged(self) -> None:
        """Hash everything again, and compare."""
        if self.content_fingerprint() != self.fingerprint:
            raise DataError(
                "Tensors: the images were changed in place after hebm.Tensors(…) was created; create it again, or "
                "pass train.clone() from the start"
            )

    @cached_property
    def _tensors(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The images and labels by split. Raises `DataError` with all errors at once."""
        complaints: list[str] = []
        images = _attempted(complaints, {"train": self.train, "test": self.test}, self._image)
        labels = _attempted(complaints, {"labels": self.labels, "test_labels": self.test_labels}, _label)
        if not complaints:
            complaints += misfits(images) + _miscounts(images, labels)
        complaints = complaints or complaints_about(labels, self.label_names)
        if complaints:
            raise DataError("\n  ".join(f"Tensors: {complaint}" for complaint in complaints))
        return images, {_LABELS[name]: tensor for name, tensor in labels.items()}

    def _image(self, value: Any, where: str) -> Tensor:
        pixels = to_nchw(tensor_of(value, where), where)
        check_values(pixels, self.range, where)
        return pixels


def _chunks(tensor: Tensor) -> Iterator[Tensor]:
    """Yield a few rows at a time, to bound the memory of copies of non-contiguous tensors."""
    row = max(1, tensor[:1].numel() * tensor.element_size())
    yield from torch.split(tensor, max(1, _CHUNK // row))


def _attempted(
    complaints: list[str], values: Mapping[str, Any], make: Callable[[Any, str], Tensor]
) -> dict[str, Tensor]:
    """Apply `make` to each value that is not None. Append the message of each `DataError` to `complaints`."""
    made: dict[str, Tensor] = {}
    for name, value in values.items():
        try:
            made |= {} if value is None else {name: make(value, name)}
        except DataError as error:
            complaints.append(str(error))
    return made


def _label(value: Any, where: str) -> Tensor:
    tensor = tensor_of(value, where)
    if tensor.is_floating_point():
        fix = f"labels must be integers: pass {where}.long() if they are whole"
        raise DataError(f"{where}: holds {tensor.dtype}; {fix}")
    return to_labels(tensor.numpy(), where)


def _miscounts(images: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> list[str]:
    """Return error messages if the number of labels differs from the number of images."""
    found = [
        f"{name}: {len(labels[name])} labels for the {len(images[split])} images of {split}; give one for each image"
        for name, split in _LABELS.items()
        if name in labels and split in images and len(labels[name]) != len(images[split])
    ]
    orphan = "test_labels" in labels and "test" not in images
    return found + (["test_labels is given without test; give both"] if orphan else [])
