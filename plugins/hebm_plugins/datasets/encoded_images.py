"""The base of data sets that consist of encoded image files, which are decoded into memory or when they are read."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor
from typing_extensions import override

from hebm.config.recipes import option, recipe
from hebm.data.corrupt import corrupt_error, corrupt_files, corrupt_note
from hebm.data.dataset_recipe import SPLITS, ImageData
from hebm.data.decode import MOST_PIXELS, CorruptImage, Decoder, ImageDecoder, Shape
from hebm.data.images import ArrayImages, Images, LazyImages, shape_mismatch
from hebm.data.stored_pixels import StoredPixels, not_stored, stored_pixels
from hebm.errors import CheckpointError, DataError, DataWarning
from hebm_plugins.datasets.file_decoders import FileDecoder, Found, StoredDecoder

MEMORY = 2 << 30  # bytes of decoded images that a split may keep in memory


@recipe
class EncodedImages(ImageData):
    """Base class of data sets of encoded images. Subclasses implement `found`, which lists the images of a split."""

    size: int | None = option(
        None, doc="resize the shorter side to this, then cut the centre square", low=1, high=16384, unit="px"
    )
    crop: int | None = option(None, doc="first cut the centre square of this side", low=1, high=16384, unit="px")
    holdout: float = option(0.1, doc="fraction of images held out as test, without test images", low=0, high=0.9)
    cache: bool = option(
        True, doc="decode each image once: store it in run.cache_folder, and keep a split of at most 2 GiB in memory"
    )
    max_pixels: int = option(MOST_PIXELS, doc="largest number of pixels of an image; larger ones are an error", low=1)
    corrupt: str = option(
        "stop",
        doc="for files that cannot be read as images: stop with an error, or skip them; both name all of them",
        choices=("stop", "skip"),
    )

    @abstractmethod
    def found(self, split: str) -> Found:
        """Return the files of a split with their labels. Raises `DataError` for a place that cannot be read."""

    @abstractmethod
    def nothing(self, split: str) -> DataError:
        """Return the error for a split without images, with the option that helps."""

    @override
    def decoder(self, shape: Shape | None) -> ImageDecoder:
        """Cut, resize and convert as the options say."""
        if shape is None:
            return Decoder(self.channels, self.size, self.crop, max_pixels=self.max_pixels)
        channels, height, width = shape
        size = self.size or (height if height == width else None)
        return Decoder(channels, size, self.crop, (width, height), self.max_pixels)

    def source(self, split: str) -> Images:
        """Find the files of a split and decode them, now or when they are asked for."""
        found, decoder = self._few(split), self.decoder(None)
        if not found.names:
            raise self.nothing(split)
        stored = stored_pixels(found.files, found.names, decoder) if self.cache else None
        images = self._from_store(found, decoder, stored) if stored is not None else None
        return images if images is not None else self._decoded(found, decoder)

    def _few(self, split: str) -> Found:
        """Return the files of a split, at most `limit`."""
        found = self.found(split)
        return found if self.limit is None else found.keep(range(min(self.limit, len(found.names))))

    def _decoded(self, found: Found, decoder: ImageDecoder) -> Images:
        """Decode the files into memory, or when they are asked for."""
        if self.corrupt == "skip":
            found = _without(found, corrupt_files(found.files, found.names, decoder))
        try:
            images = decode_all(found, decoder) if self.cache else None
        except CorruptImage as error:
            raise self._all_corrupt() from error
        return images if images is not None else _lazy(found, FileDecoder(found, decoder, self._all_corrupt))

    def _from_store(self, found: Found, decoder: ImageDecoder, stored: StoredPixels) -> Images | None:
        """Return the stored images, decoding missing ones now or when they are asked for; None if storing fails."""
        small = stored.pixels.nbytes <= MEMORY
        try:
            bad = stored.fill() if small or self.corrupt == "skip" else {}
        except CheckpointError as error:
            warnings.warn(not_stored(error), DataWarning, stacklevel=2)
            return None
        if bad and self.corrupt == "stop":
            raise self._all_corrupt() from next(iter(bad.values()))
        rows = [i for i in range(len(found.names)) if i not in bad]
        found = _without(found, {found.names[i]: error for i, error in bad.items()})
        if small:
            return _in_memory(found, stored.pixels[rows] if bad else stored.pixels)
        return _lazy(found, StoredDecoder(stored, rows, FileDecoder(found, decoder, self._all_corrupt)))

    def _all_corrupt(self) -> DataError:
        """Return one error that names all files of all splits that cannot be read as images."""
        bad, total = dict[str, CorruptImage](), 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # printed already when the split was found
            for found in map(self._few, SPLITS):
                total += len(found.names)
                corrupt = corrupt_files(found.files, found.names, self.decoder(None))
                bad |= {found.files.describe(name): error for name, error in corrupt.items()}
        return (
            corrupt_error(bad, total) if bad else DataError(f"{found.files.path}: changed while it was read; run again")
        )


def decode_all(found: Found, decoder: ImageDecoder) -> ArrayImages | None:
    """Decode all images into memory, `(N, C, H, W)` uint8, in one pass; return None if they take over 2 GiB."""
    place = {name: i for i, name in enumerate(found.names)}
    pixels: Tensor | None = None
    for name, data in found.files.stream(place):
        image = decoder(data, found.files.describe(name))
        if pixels is None:
            if len(place) * image.numel() > MEMORY:
                return None
            first, pixels = name, torch.empty(len(place), *image.shape, dtype=torch.uint8)
        if image.shape != pixels.shape[1:]:
            error = shape_mismatch(found.files.describe(name), _triple(image), _triple(pixels[0]))
            raise DataError(f"{error} (the first image: {found.files.describe(first)})")
        pixels[place[name]] = image
    if pixels is None:
        raise DataError(f"{found.files.path}: no readable images; check {found.files.key}")
    return _in_memory(found, pixels)


def _in_memory(found: Found, pixels: Tensor) -> ArrayImages:
    return ArrayImages(pixels, found.labels.tensor(), found.labels.classes, found.labels.attributes)


def _lazy(found: Found, decode: FileDecoder | StoredDecoder) -> LazyImages:
    labels = found.labels
    return LazyImages(
        len(found.names),
        decode,
        labels.tensor(),
        labels.classes,
        found.names,
        f"{found.files.path}/",
        attributes=labels.attributes,
    )


def _without(found: Found, bad: Mapping[str, CorruptImage]) -> Found:
    """Leave out files that cannot be read as images, with a `DataWarning` that names them."""
    if not bad:
        return found
    note = corrupt_note(bad, len(found.names))
    good = [i for i, name in enumerate(found.names) if name not in bad]
    if not good:
        raise DataError(f"{found.files.path}: no file can be read as an image; check {found.files.key}\n{note}")
    warnings.warn(note, DataWarning, stacklevel=2)
    return found.keep(good)


def _triple(image: Tensor) -> tuple[int, int, int]:
    channels, height, width = image.shape
    return channels, height, width
