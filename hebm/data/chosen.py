"""Select parts of a split: images of some classes, some of the attributes, or a held-out fraction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hebm.data.images import Images
from hebm.data.labels import attribute_values, class_index
from hebm.errors import ConfigError, DataError
from hebm.noise import derive_seed


class Chosen(Images):
    """Images at chosen positions of a split. Classes keep their names and numbers.

    Arguments:
        images: the split.
        index: the chosen positions, `(n,)`.
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
    """The images of a split with some of their attributes, in a given order.

    Arguments:
        images: the split.
        names: names of the attributes, in any spelling that `hebm.data.labels` accepts.

    Raises `ConfigError` with all names for an unknown one.
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
    """Return the numbers of the given classes. Raises `ConfigError` for unknown classes, or images without classes."""
    if images.labels is None or not images.classes:
        kind = "attributes, not classes" if images.attributes else "no labels"
        raise ConfigError(f"data.without = {list(without)}: these images have {kind}; leave it out")
    try:
        return tuple(sorted({class_index(name, images.classes) for name in without}))
    except ConfigError as error:
        raise ConfigError(f"data.without: {error}") from error


def of_classes(images: Images, classes: Sequence[int], inside: bool) -> Chosen:
    """Return the images of these classes (`inside`) or of all others. Raises `DataError` if there are none."""
    labels = images.labels if images.labels is not None else torch.empty(0, dtype=torch.int64)
    index = (torch.isin(labels, torch.tensor(classes)) == inside).nonzero().squeeze(1)
    if not len(index):
        names = ", ".join(images.classes[i] for i in classes)
        raise DataError(f"data.without: no image is {'in' if inside else 'left without'} the classes {names}")
    return Chosen(images, index)


def held_out(images: Images, fraction: float) -> tuple[Chosen, Chosen]:
    """Divide a split into a training part and a held-out part of round(fraction · N) images, each in file order.

    The choice depends only on N, not on the run's seed, so runs with other seeds on one backbone hold out the same
    images. A larger fraction includes the held-out images of a smaller one.

    Raises `DataError` if one of the parts is empty.
    """
    total = len(images)
    count = round(fraction * total)
    if not 0 < count < total:
        raise DataError(
            f"data.validation = {fraction:g} holds out {count} of {total} images; hold out at least one and keep at "
            "least one: change the fraction, or use more images"
        )
    order = torch.randperm(total, generator=torch.Generator().manual_seed(derive_seed("validation", total)))
    return Chosen(images, order[count:].sort().values), Chosen(images, order[:count].sort().values)
