"""Parts of a split: images of some classes only, some of the attributes, or a held-out fraction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hebm.data.images import Images
from hebm.data.labels import attribute_values, class_index
from hebm.errors import ConfigError, DataError
from hebm.noise import derive_seed


class Chosen(Images):
    """Images at chosen positions of another split; classes keep their names and numbers.

    Arguments:
        images: the split.
        index: positions, `(n,)`.
    """

    def __init__(self, images: Images, index: Tensor) -> None:
        self.images, self.index, self.shape = images, index, images.shape
        self.classes, self.attributes = images.classes, images.attributes
        self.labels = None if images.labels is None else images.labels[index]

    def __len__(self) -> int:
        """Return the number of chosen images."""
        return len(self.index)

    def read(self, indices: Tensor) -> Tensor:
        """Read the chosen images of the wrapped set."""
        return self.images.read(self.index[indices])

    def fingerprint(self) -> str:
        """Hash the whole split's fingerprint and the chosen positions."""
        return self.digest(self.images.fingerprint().encode(), self.index.numpy().tobytes())


class FewAttributes(Images):
    """The same images with some of their attributes, in a given order.

    Arguments:
        images: the split.
        names: of the attributes, however they are spelt. Raises `ConfigError` with all names for an unknown one.
    """

    def __init__(self, images: Images, names: Sequence[str]) -> None:
        asked = [attribute_values(name, images.attributes) for name in names]
        columns = [values.index(1) for values in asked if 1 in values]
        if images.labels is None or len(set(columns)) < len(names):
            raise ConfigError(f"data.attributes = {list(names)}: name each attribute once, without a sign")
        self.images, self.shape = images, images.shape
        self.attributes = tuple(images.attributes[i] for i in columns)
        self.labels = images.labels[:, columns]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def read(self, indices: Tensor) -> Tensor:
        """Read the images of the wrapped set."""
        return self.images.read(indices)

    def fingerprint(self) -> str:
        """Hash the whole split's fingerprint and the attributes."""
        return self.digest(self.images.fingerprint().encode(), *self.attribute_digest())


def left_out(without: Sequence[str], images: Images) -> tuple[int, ...]:
    """Return the numbers of the given classes. Raises `ConfigError` for unknown ones, or without classes."""
    if images.labels is None or not images.classes:
        kind = "attributes, not classes" if images.attributes else "no labels"
        raise ConfigError(f"data.without = {list(without)}: these images have {kind}; leave it out")
    try:
        return tuple(sorted({class_index(name, images.classes) for name in without}))
    except ConfigError as error:
        raise ConfigError(f"data.without: {error}") from error


def of_classes(images: Images, classes: Sequence[int], inside: bool) -> Chosen:
    """Keep the images of these classes, or all others. Raises `DataError` if none remain."""
    labels = images.labels if images.labels is not None else torch.empty(0, dtype=torch.int64)
    index = (torch.isin(labels, torch.tensor(classes)) == inside).nonzero().squeeze(1)
    if not len(index):
        names = ", ".join(images.classes[i] for i in classes)
        raise DataError(f"data.without: no image is {'of' if inside else 'left without'} the classes {names}")
    return Chosen(images, index)


def held_out(images: Images, fraction: float) -> tuple[Chosen, Chosen]:
    """Divide a split into the images to train on and a held-out part of round(fraction · N), each in file order.

    The choice is a function of N alone, not of the run's seed: runs with other seeds on one backbone hold out the same
    images. A larger fraction holds out the images of a smaller one and more.

    Raises `DataError` if one of the parts is empty.
    """
    total = len(images)
    count = round(fraction * total)
    if not 0 < count < total:
        raise DataError(
            f"data.validation = {fraction:g} of {total} images holds out {count}; at least one image must be held out "
            "and one must remain: change the fraction, or bring more images"
        )
    order = torch.randperm(total, generator=torch.Generator().manual_seed(derive_seed("validation", total)))
    return Chosen(images, order[count:].sort().values), Chosen(images, order[:count].sort().values)
