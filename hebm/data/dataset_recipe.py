"""The base of all recipes of data sets, with the checks that every split must pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch

from hebm.config.recipes import option, recipe
from hebm.data.chosen import FewAttributes, held_out, left_out, of_classes
from hebm.data.decode import Decoder, ImageDecoder, Shape
from hebm.data.images import Adapted, Images
from hebm.errors import DataError
from hebm.interfaces import ImageSpec

SPLITS = ("train", "test")
VALIDATION = "validation"
"""Name of the part of the training split that is held out."""


class DatasetRecipe(ABC):
    """Interface of data sets, registered in the group `hebm_datasets`. Derive from `ImageData`, which checks images."""

    group: ClassVar[str] = "hebm_datasets"
    batch_size: int
    flip: bool
    binarize: str
    workers: int
    validation: float = 0.0

    @abstractmethod
    def load(self, split: str) -> Images:
        """Return the images of split "train" or "test". Raises `DataError` that names the file and the fix."""

    def splits(self) -> dict[str, Images]:
        """Return the images of each split: "train", "test", and "validation" if a fraction of "train" is held out.

        Raises the errors of `load`, and `DataError` if the fraction leaves either part of "train" empty.
        """
        images = {split: self.load(split) for split in SPLITS}
        if self.validation:
            images["train"], images[VALIDATION] = held_out(images["train"], self.validation)
        return images

    def decoder(self, shape: Shape | None) -> ImageDecoder:
        """Return the decoder that turns image files into input of a model, as the data set decodes its files.

        The default resizes the centre square. Override it in data sets that consist of image files.

        Arguments:
            shape: (C, H, W) that the model takes, for files of a user; None while the data set itself is loaded.
        """
        channels, height, width = shape or (None, None, None)
        return Decoder(channels, height if height == width else None)


@recipe
class ImageData(DatasetRecipe):
    """Base class of data sets. Subclasses implement `source`; `load` applies the options and checks the images."""

    batch_size: int = option(100, doc="images per training step, over all processes", low=1)
    flip: bool = option(False, doc="mirror each training image left to right with probability 1/2")
    binarize: str = option(
        "off",
        doc="draw each pixel as ±1 with P(1) = (x+1)/2 at every access: only in the target of the likelihood, or also "
        "in the input of the inference model",
        choices=("off", "target", "both"),
    )
    channels: int | None = option(None, doc="convert to grey (1) or colour (3); left out: unchanged", choices=(1, 3))
    limit: int | None = option(None, doc="use only the first images of each split, at most this number", low=1)
    workers: int = option(
        0, doc="background processes that prepare batches; 0 prepares them in the main process", low=0, high=256
    )
    without: tuple[str, ...] = option(
        (), doc="classes to leave out of the training split, by name or number; the test split keeps them"
    )

    validation: float = option(
        0.0,
        doc="fraction of the training split that is held out. The log then has the prior's loss on it (for contrastive "
        "priors also AUROC and certified nats), and `patience` uses this loss. Which images are held out depends only "
        "on their number. A backbone from `train.backbone_from` has seen these images unless it was trained with the "
        "same fraction",
        low=0,
        high=0.9,
    )
    attributes: tuple[str, ...] = option((), doc="use only these attributes, in this order; empty: all")

    @abstractmethod
    def source(self, split: str) -> Images:
        """Return all images of split "train" or "test", in file order. Raises `DataError` if they are not found."""

    def load(self, split: str) -> Images:
        """Return the images of a split, with `channels`, `without`, `attributes` and `limit` applied.

        Raises:
            ConfigError: if `without` or `attributes` has an unknown name.
            DataError: if there are no images, if they have neither 1 nor 3 channels, or values outside [−1, 1].
        """
        if split not in SPLITS:
            raise DataError(f"unknown split {split!r}; use {' or '.join(map(repr, SPLITS))}")
        images = self.source(split)
        where = f"data set {type(self).__name__}, split {split!r}"
        if not len(images):
            raise DataError(f"{where}: no images; check data.root and the folder's contents")
        if 0 in images.shape:
            raise DataError(f"{where}: images of shape {tuple(images.shape)} have no pixels; check data.root")
        if images.shape[0] not in (1, 3):
            fix = "only grey (1) and colour (3) are supported: convert the images"
            raise DataError(f"{where}: images have {images.shape[0]} channels; {fix}")
        if self.without:
            unseen = left_out(self.without, images)
            images = of_classes(images, unseen, inside=False) if split == "train" else images
        if self.attributes:
            images = FewAttributes(images, self.attributes)
        if self.limit is not None or self.channels not in (None, images.shape[0]):
            images = Adapted(images, self.limit, self.channels)
        _check_values(images, where)
        return images


def spec(images: Images, recipe: DatasetRecipe) -> ImageSpec:
    """Return the description of the images that a backbone is built from."""
    channels, height, width = images.shape
    binary = recipe.binarize != "off"
    return ImageSpec(channels, height, width, tuple(images.classes), binary, tuple(images.attributes))


def _check_values(images: Images, where: str) -> None:
    """Check shape, type and range of a few images, since data sets of plugins may get them wrong."""
    x = images.read(torch.arange(min(8, len(images))))
    if tuple(x.shape[1:]) != tuple(images.shape) or x.dtype != torch.float32:
        promised = f"float32 {tuple(images.shape)}"
        raise DataError(f"{where}: promises images {promised}, but reads {x.dtype} {tuple(x.shape[1:])}")
    low, high = float(x.min()), float(x.max())
    if not (-1 <= low and high <= 1):  # NaN fails every comparison
        raise DataError(f"{where}: values run from {low:g} to {high:g}, allowed is [-1, 1]; check its value range")
