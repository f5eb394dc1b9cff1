"""Choose the images that represent a data set, and convert images to pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from hebm.data.images import Images


def even_places(n: int, most: int) -> Tensor:
    """Return places of at most `most` of n things, evenly spread, ⌊i · n / count⌋: all, in order, if they fit."""
    count = min(n, most)
    return torch.arange(count) * n // max(1, count)


class EvenSubset(Images):
    """n of a data set's images, evenly spread, so that a folder sorted by class contributes every class.

    Image i is number ⌊i · len / n⌋ of the data set; with n = len they are all, in order.

    Arguments:
        images: the data set.
        n: how many at most.
    """

    def __init__(self, images: Images, n: int) -> None:
        self.images, self.shape = images, images.shape
        self.classes, self.attributes = images.classes, images.attributes
        self.index = even_places(len(images), n)
        self.labels = None if images.labels is None else images.labels[self.index]

    def __len__(self) -> int:
        """Return the number of images taken."""
        return len(self.index)

    def read(self, indices: Tensor) -> Tensor:
        """Read images at positions `(B,)` of those taken, `(B, C, H, W)` in [−1, 1]."""
        return self.images.read(self.index[indices])

    def fingerprint(self) -> str:
        """Hash the whole set's fingerprint and the number taken."""
        return self.digest(self.images.fingerprint().encode())
