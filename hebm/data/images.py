"""The interface of a data set's split: random access to images in file order.

**The range:** an 8-bit value v becomes x = v/127.5 − 1, so images are float32 `(C, H, W)` in [−1, 1].
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from hebm.data.decode import Picture, pixels_of
from hebm.errors import DataError

SAMPLE = 64


def to_unit_range(pixels: Tensor) -> Tensor:
    """Scale 8-bit values v to x = v/127.5 − 1 in [−1, 1]. Float values must already lie in [−1, 1]."""
    if pixels.dtype == torch.uint8:
        return pixels.float().div_(127.5).sub_(1)
    return pixels.float()


def from_range(values: Tensor, low: float, high: float) -> Tensor:
    """Scale values from [low, high] to [−1, 1]: x = v/h − m/h, with h half the width of the range and m its middle.

    Arguments:
        values: values `(…)` of any real type.
        low: the value that becomes −1.
        high: the value that becomes 1.

    Returns float32 values, clamped to [−1, 1] after rounding.
    """
    half, middle = (high - low) / 2, (high + low) / 2
    exact = values if values.dtype == torch.float64 else values.float()
    return (exact / half - middle / half).float().clamp_(-1, 1)


class Images(ABC):
    """A split of a data set.

    Attributes:
        shape: (C, H, W) of every image.
        classes: names of the classes; () without classes.
        attributes: names of A binary attributes, which images may have instead of classes; () without attributes.
        labels: class indices `(N,)`, or attributes `(N, A)` in {0, 1}; int64, or None.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    labels: Tensor | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Return N, the number of images."""

    @abstractmethod
    def read(self, indices: Tensor) -> Tensor:
        """Read images at positions `(B,)` as float32 `(B, C, H, W)` in [−1, 1]. Raises `DataError` for a bad file."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a SHA-256 (hex) that identifies the split: `digest` of everything that determines its images."""

    def digest(self, *parts: bytes | memoryview) -> str:
        """Return a SHA-256 (hex) of the image shape, N, class names, class labels, and `parts`.

        It does not include attributes: pass `attribute_digest` or their source among `parts`.
        """
        sha = hashlib.sha256(repr((tuple(self.shape), len(self), tuple(self.classes))).encode())
        labels = b"" if self.labels is None or self.attributes else self.labels.contiguous().numpy().tobytes()
        for part in (labels, *parts):
            sha.update(len(part).to_bytes(8, "little"))
            sha.update(part)
        return sha.hexdigest()

    def attribute_digest(self) -> tuple[bytes, ...]:
        """Hash the attributes' names and values, as parts for `digest`; () without attributes."""
        if self.labels is None or not self.attributes:
            return ()
        sha = hashlib.sha256(repr(tuple(self.attributes)).encode())
        sha.update(self.labels.contiguous().numpy().tobytes())
        return (sha.digest(),)

    def sample_digest(self) -> bytes:
        """Hash at most 64 evenly spaced images, for sets that are slow to read as a whole."""
        indices = torch.linspace(0, len(self) - 1, min(SAMPLE, len(self))).long()
        return hashlib.sha256(self.read(indices).contiguous().numpy().tobytes()).digest()


class ArrayImages(Images):
    """Images held in memory.

    Arguments:
        pixels: images `(N, C, H, W)`, uint8 or float32 in [−1, 1].
        labels: class indices `(N,)`, attributes `(N, A)` in {0, 1}, or None.
        classes: names of the classes.
        attributes: names of the A attributes.

    Raises `DataError` if `pixels` does not have four dimensions, or if `labels` do not fit the images or the names.
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor | None = None,
        classes: Sequence[str] = (),
        attributes: Sequence[str] = (),
    ) -> None:
        if pixels.ndim != 4:
            raise DataError(f"expected images of shape (N, C, H, W), got an array of shape {tuple(pixels.shape)}")
        self.pixels, self.classes, self.attributes = pixels.contiguous(), tuple(classes), tuple(attributes)
        self.shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
        self.labels = None if labels is None else labels.long()
        _check_labels(self)

    def __len__(self) -> int:
        """Return N, the number of images."""
        return len(self.pixels)

    def read(self, indices: Tensor) -> Tensor:
        """Read rows of the array."""
        return to_unit_range(self.pixels[indices])

    def fingerprint(self) -> str:
        """Hash all bytes of the array."""
        content = self.pixels.numpy().reshape(-1).view("uint8").data
        return self.digest(str(self.pixels.dtype).encode(), content, *self.attribute_digest())


class LazyImages(Images):
    """Images that are decoded on each read.

    Arguments:
        n: number of images.
        decode: maps a position to a PIL image in mode L or RGB, or to a tensor `(C, H, W)`, uint8 or float in
            [−1, 1]. To work with workers on systems that do not fork, it must be picklable: a class, not a closure.
        labels: class indices `(N,)`, attributes `(N, A)` in {0, 1}, or None.
        classes: names of the classes.
        names: names of the images, such as file names; part of the fingerprint.
        where: prefix of the names in messages, such as a folder; not part of the fingerprint.
        shape: (C, H, W); None for the shape of the first image.
        attributes: names of the A attributes.

    Raises `DataError` for labels that do not fit the images or the names, and what `decode` raises.
    """

    def __init__(
        self,
        n: int,
        decode: Callable[[int], Picture | Tensor],
        labels: Tensor | None = None,
        classes: Sequence[str] = (),
        names: Sequence[str] = (),
        where: str = "",
        shape: tuple[int, int, int] | None = None,
        attributes: Sequence[str] = (),
    ) -> None:
        self._n, self.decode, self.names, self.where = n, decode, names, where
        self.classes, self.attributes = tuple(classes), tuple(attributes)
        self.labels = None if labels is None else labels.long()
        self.shape = shape or (_shape(pixels_of(decode(0))) if n else (0, 0, 0))
        _check_labels(self)

    def __len__(self) -> int:
        """Return N, the number of images."""
        return self._n

    def read(self, indices: Tensor) -> Tensor:
        """Decode images. Raises `DataError` if one has another shape."""
        pixels = [self._one(i) for i in indices.tolist()]
        if pixels and all(image.dtype == torch.uint8 for image in pixels):
            return to_unit_range(torch.stack(pixels))
        return torch.stack([*map(to_unit_range, pixels)]) if pixels else torch.empty(0, *self.shape)

    def _one(self, i: int) -> Tensor:
        pixels = pixels_of(self.decode(i))
        if _shape(pixels) != self.shape:
            raise shape_mismatch(self.name(i), _shape(pixels), self.shape)
        return pixels

    def name(self, i: int) -> str:
        """Return the name of image i in messages."""
        return self.where + (self.names[i] if self.names else f"image {i}")

    def fingerprint(self) -> str:
        """Hash all names and 64 evenly spaced decoded images."""
        names = "\n".join(self.names).encode(errors="surrogatepass")  # file names may not be UTF-8
        return self.digest(names, self.sample_digest(), *self.attribute_digest())


class Adapted(Images):
    """The first n images of a split, with one or three channels.

    Arguments:
        images: the split.
        n: number of images to keep; None for all.
        channels: 1 converts colour to luma 0.299 R + 0.587 G + 0.114 B, and 3 repeats grey. None converts nothing.
    """

    def __init__(self, images: Images, n: int | None = None, channels: int | None = None) -> None:
        self.images, self._n = images, min(len(images), len(images) if n is None else n)
        self.classes, self.attributes = images.classes, images.attributes
        self.labels = None if images.labels is None else images.labels[: self._n]
        self.shape = (channels or images.shape[0], *images.shape[1:])

    def __len__(self) -> int:
        """Return the number of kept images."""
        return self._n

    def read(self, indices: Tensor) -> Tensor:
        """Read images of the split and convert their channels."""
        x = self.images.read(indices)
        if x.shape[1] == self.shape[0]:
            return x
        if self.shape[0] == 3:
            return x.expand(-1, 3, -1, -1).contiguous()
        return (x * x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True).clamp_(-1, 1)

    def fingerprint(self) -> str:
        """Hash the whole split's fingerprint, the shape, and the number of kept images."""
        return self.digest(self.images.fingerprint().encode())


def shape_mismatch(name: str, shape: tuple[int, int, int], expected: tuple[int, int, int]) -> DataError:
    """Return the error for an image whose channels or size differ from the first one's, with the option that helps."""
    if shape[0] != expected[0]:
        fix = "set data.channels = 1 or 3 to convert all of them"
        return DataError(f"{name}: has {shape[0]} channel(s), the first image has {expected[0]}; {fix}")
    fix = "set data.size to resize and crop all of them (where the data set has it), or fix the file"
    return DataError(f"{name}: is {shape[2]}×{shape[1]} pixels, the first image is {expected[2]}×{expected[1]}; {fix}")


def _shape(pixels: Tensor) -> tuple[int, int, int]:
    channels, height, width = pixels.shape
    return channels, height, width


def _check_labels(images: Images) -> None:
    if images.attributes:
        _check_attributes(images)
    elif images.labels is not None:
        _check_classes(images.labels, len(images), len(images.classes))


def _check_classes(labels: Tensor, n: int, classes: int) -> None:
    if labels.shape != (n,):
        raise DataError(f"expected one label per image, {n}, got labels of shape {tuple(labels.shape)}")
    if classes and len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        span = f"{int(labels.min())} to {int(labels.max())}"
        raise DataError(f"labels run from {span}, but there are {classes} classes")


def _check_attributes(images: Images) -> None:
    labels, shape = images.labels, (len(images), len(images.attributes))
    if images.classes:
        raise DataError(f"images with {len(images.classes)} classes cannot have attributes too; leave out one of them")
    if labels is None or labels.shape != shape:
        got = "none" if labels is None else f"labels of shape {tuple(labels.shape)}"
        raise DataError(f"expected a label per image and attribute, {shape}, got {got}")
    if not bool(((labels == 0) | (labels == 1)).all()):
        span = f"{int(labels.min())} to {int(labels.max())}"
        raise DataError(f"attributes run from {span}, allowed is 0 (no) and 1 (yes)")
