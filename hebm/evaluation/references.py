"""Choose the images that represent a data set."""

from __future__ import annotations

import torch
from torch import Tensor

from hebm.data.images import Images


def even_places(n: int, most: int) -> Tensor:
    """Return at most `most` evenly spaced positions ⌊i · n / count⌋ out of n; all positions in order if n ≤ most."""
    count = min(n, most)
    return torch.arange(count) * n // max(1, count)


class EvenSubset(Images):
    """An evenly spaced subset of a data set's images, so that a folder sorted by class contributes every class.

    Image i of the subset is image ⌊i · len / n⌋ of the data set. With n = len the subset is the whole set, in order.

    Arguments:
        images: the data set.
        n: largest number of images.
    """

    def __init__(self, images: Images, n: int) -> None:
        self.images, self.shape = images, images.shape
        self.classes, self.attributes = images.classes, images.attributes
        self.index = even_places(len(images), n)
        self.labels = None if images.labels is None else images.labels[self.index]

    def __len__(self) -> int:
        """Return the number of images in the subset."""
        return len(self.index)

    def read(self, indices: Tensor) -> Tensor:
        """Read images at positions `(B,)` of the subset as `(B, C, H, W)` in [−1, 1]."""
        return self.images.read(self.index[indices])

    def fingerprint(self) -> str:
        """Hash the whole set's fingerprint and the size of the subset."""
        return self.digest(self.images.fingerprint().encode())
