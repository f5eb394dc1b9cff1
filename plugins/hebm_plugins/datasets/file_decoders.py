"""The files of a split of `image-folder`, and their decoders by position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import attrs
from torch import Tensor

from hebm.data.decode import CorruptImage, ImageDecoder
from hebm.data.files import Files
from hebm.data.stored_pixels import StoredPixels
from hebm.errors import DataError
from hebm_plugins.datasets.csv_labels import Labels


@attrs.frozen
class Found:
    """The files of a split, in order.

    Arguments:
        files: the folder or archive.
        names: names of the images in `files`.
        labels: the label of each image.
    """

    files: Files
    names: tuple[str, ...]
    labels: Labels

    def keep(self, positions: Sequence[int]) -> Found:
        """Return the files at these positions, with their labels."""
        return Found(self.files, tuple(self.names[i] for i in positions), self.labels.keep(positions))


@attrs.frozen
class FileDecoder:
    """Maps a position to pixels, for lazy reading. It is a class so that data workers can unpickle it."""

    found: Found
    decoder: ImageDecoder
    all_corrupt: Callable[[], DataError]

    def __call__(self, i: int) -> Tensor:
        """Decode file i. If it cannot be read as an image, the error names all such files of the data set."""
        name = self.found.names[i]
        try:
            return self.decoder(self.found.files.read(name), self.found.files.describe(name))
        except CorruptImage as error:
            raise self.all_corrupt() from error


@attrs.frozen
class StoredDecoder:
    """Maps a position to stored pixels, or decodes the file and stores them.

    Arguments:
        stored: the stored pixels.
        rows: row of each position.
        decode: decodes the file of a position.
    """

    stored: StoredPixels
    rows: Sequence[int]
    decode: Callable[[int], Tensor]

    def __call__(self, i: int) -> Tensor:
        """Return the pixels of file i."""
        return self.stored.take(self.rows[i], partial(self.decode, i))
