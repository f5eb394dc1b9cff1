"""The base of data sets that are passed in Python. Experiment files store only the fingerprint of the images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import attrs
import torch
from torch import Tensor

from hebm.config.recipes import live_fields, option, recipe
from hebm.data.dataset_recipe import ImageData
from hebm.data.images import Images
from hebm.errors import ConfigError, DataError
from hebm_plugins.datasets.label_arrays import names_of
from hebm_plugins.datasets.pixel_arrays import WIDEST, Range, check_range, scaled
from hebm_plugins.datasets.splits import hold_out_numbers

HELD_OUT = 0.1
_IN_FILES = (
    'A file cannot hold them; use type = "arrays" for .npy and .npz files, type = "image-folder" for image files'
)


class Stack(Protocol):
    """Pixels `(N, C, H, W)` of one type: a tensor, or an object that is indexed like one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of images, their channels, height and width."""

    @property
    def dtype(self) -> torch.dtype:
        """The element type of the pixels: uint8 or floats."""

    def __len__(self) -> int:
        """Return the number of images."""

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the pixels at positions `(B,)`, `(B, C, H, W)`."""


@attrs.frozen(eq=False)
class Passed:
    """Checked images and labels that the user passed.

    Arguments:
        images: the images of "train", and of "test" if it is given.
        labels: int64 labels by the same names; empty without labels.
    """

    images: Mapping[str, Stack]
    labels: Mapping[str, Tensor]


def misfits(images: Mapping[str, Stack]) -> list[str]:
    """Return error messages if training and test images cannot form one data set."""
    train, test = images.get("train"), images.get("test")
    if train is None:
        return ["no training images are given; pass them as the first argument"]
    if test is None:
        return ["one image cannot be divided into train and test; pass test images too"] if len(train) < 2 else []
    found = []
    if test.shape[1:] != train.shape[1:]:
        found.append(f"test: images have shape {tuple(test.shape[1:])}, those of train {tuple(train.shape[1:])}")
    if test.dtype != train.dtype:
        found.append(f"test: holds {test.dtype}, train {train.dtype}; convert one of them")
    return found


class PassedImages(Images):
    """The images of one split, which are rows of a stack and are scaled when they are read.

    Arguments:
        pixels: all images of the stack.
        index: positions of the images of this split, `(n,)`.
        stated: the range of the values.
        labels: labels of the images of this split, or None.
        names: names of the classes and of the attributes.
        key: identifies the content of the images in the fingerprint.
    """

    def __init__(
        self,
        pixels: Stack,
        index: Tensor,
        stated: Range,
        labels: Tensor | None,
        names: tuple[tuple[str, ...], tuple[str, ...]],
        key: str,
    ) -> None:
        self.pixels, self.index, self.stated, self.labels, self.key = pixels, index, stated, labels, key
        self.classes, self.attributes = names
        self.shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])

    def __len__(self) -> int:
        """Return the number of images of the split."""
        return len(self.index)

    def read(self, indices: Tensor) -> Tensor:
        """Read rows of the stack. Raises `DataError` as it does."""
        return scaled(self.pixels[self.index[indices]], self.stated)

    def fingerprint(self) -> str:
        """Hash the key, the positions and the attributes."""
        return self.digest(self.key.encode(), self.index.numpy().tobytes(), *self.attribute_digest())


@recipe
class FromPython(ImageData):
    """Images passed in Python. Subclasses declare them as `live` fields and implement the three abstract methods.

    Two recipes are equal if their keys are equal, which include the fingerprint of the images. A recipe that is read
    from a file has a fingerprint but no images; `hebm.config.live_values.with_live` copies them from another recipe.
    """

    fingerprint: str | None = option(
        None, doc="SHA-256 of the images and labels, 64 hex digits; hebm computes it", pattern=r"[0-9a-f]{64}"
    )
    range: tuple[float, float] | None = option(
        None, doc="values of black and white, such as (0, 1); required for floats", low=-WIDEST, high=WIDEST
    )
    label_names: tuple[str, ...] = option((), doc="names of the classes or attributes; by default their numbers")

    @abstractmethod
    def passed(self) -> Passed:
        """Return the checked images and labels. Raises `DataError` with all errors at once."""

    @abstractmethod
    def content_fingerprint(self) -> str:
        """Return the SHA-256 (hex) of images and labels. Raises `DataError` as `passed` does."""

    @abstractmethod
    def require_unchanged(self) -> None:
        """Raise `DataError` if the images have changed since the fingerprint was computed."""

    def __attrs_post_init__(self) -> None:
        """Check images and labels, and compute their fingerprint.

        Raises:
            ConfigError: neither images nor a fingerprint are given, or the range is not ascending.
            DataError: the images or labels are invalid, or their fingerprint differs from the one that is given.
        """
        check_range(self.range)
        if not self.has_images:
            if self.fingerprint is None:
                raise ConfigError(self._without_images())
            return
        found = self.content_fingerprint()
        if self.fingerprint not in (None, found):
            raise DataError(
                f"{type(self).__name__}: these are not the images of this run: their fingerprint is {found[:12]}…, "
                f"the run's is {str(self.fingerprint)[:12]}…; pass the same images, labels and split in the same order "
                "(unchanged in place), or start another run"
            )
        object.__setattr__(self, "fingerprint", found)

    @property
    def has_images(self) -> bool:
        """Whether images were passed; False for a recipe that was read from a file."""
        return any(getattr(self, field.name) is not None for field in live_fields(type(self)))

    def source(self, split: str) -> PassedImages:
        """Return the images of a split, in the order in which they were passed.

        Raises `DataError` without images, and if they have changed.
        """
        self._require_images()
        self.require_unchanged()
        images, labels = self.passed().images, self.passed().labels
        whole = split if "test" in images else "train"
        n = len(images[whole])
        index = torch.arange(n) if "test" in images else hold_out_numbers(n, HELD_OUT, split)
        mine = labels[whole][index] if whole in labels else None
        names = names_of(labels.get("train"), self.label_names)
        return PassedImages(images[whole], index, self.range, mine, names, f"{self.fingerprint} {self.range} {split}")

    def _require_images(self) -> None:
        if not self.has_images:
            name = type(self).__name__
            raise DataError(
                f"data: these images came from Python (hebm.{name}, fingerprint "
                f"{str(self.fingerprint)[:12]}…) and are not in its folder; pass them again in Python: "
                f"hebm.open_run(PATH, data=hebm.{name}(…)) opens a run, and "
                f'hebm.Experiment.load(FILE, {{"data": hebm.{name}(…)}}) reads an experiment. {_IN_FILES}'
            )

    def _without_images(self) -> str:
        first: Any = live_fields(type(self))[0].name
        return f"no images: pass them in Python, hebm.{type(self).__name__}({first}, …). {_IN_FILES}"
