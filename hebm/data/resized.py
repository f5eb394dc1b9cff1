"""Out-of-distribution images for a trained model: another data set in the model's shape, or images upside down."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hebm.data.images import Adapted, Images
from hebm.errors import DataError


class Resized(Images):
    """Images of another data set, converted to a given shape.

    Converts colour to luma, and grey to three equal channels. Resizes images of another size and the same aspect ratio
    (bilinear, antialiased).

    Arguments:
        images: a split of the other data set.
        shape: the target shape (C, H, W).
        name: name of the data set, for the message.
        key: path of the data set in the configuration, for the message, such as "ood.data".

    Raises `DataError` if the aspect ratio differs.
    """

    def __init__(self, images: Images, shape: tuple[int, int, int], name: str, key: str) -> None:
        self.images = Adapted(images, channels=shape[0])
        self.shape, self.labels, self.classes, self.attributes = shape, images.labels, images.classes, images.attributes
        _, height, width = images.shape
        if height * shape[2] != width * shape[1]:
            fix = f"set {key}.size or {key}.crop, if it has these keys, so that the aspect ratios agree"
            raise DataError(f"{name}: its images are {width}×{height} pixels, the model's {shape[2]}×{shape[1]}; {fix}")

    @property
    def resized(self) -> bool:
        """Whether the images must be resized."""
        return self.images.shape != self.shape

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def read(self, indices: Tensor) -> Tensor:
        """Read images of the wrapped set, converted to the new shape."""
        x = self.images.read(indices)
        if not self.resized:
            return x
        return F.interpolate(x, self.shape[1:], mode="bilinear", antialias=True, align_corners=False).clamp(-1, 1)

    def fingerprint(self) -> str:
        """Hash the wrapped set's fingerprint and the new shape."""
        return self.digest(self.images.fingerprint().encode())


class UpsideDown(Images):
    """Images flipped upside down: pixel values keep their distribution, and the structure changes."""

    def __init__(self, images: Images) -> None:
        self.images, self.shape = images, images.shape
        self.labels, self.classes, self.attributes = images.labels, images.classes, images.attributes

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def read(self, indices: Tensor) -> Tensor:
        """Read images upside down: rows of pixels in reverse order."""
        return torch.flip(self.images.read(indices), (2,))

    def fingerprint(self) -> str:
        """Hash the wrapped set's fingerprint, marked as upside down."""
        return self.digest(self.images.fingerprint().encode(), b"upside down")
