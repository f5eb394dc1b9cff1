"""Read all image files of a user, in the order of their names."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hebm.data.corrupt import corrupt_error, corrupt_files, corrupt_note
from hebm.data.decode import CorruptImage, ImageDecoder, Picture, Shape
from hebm.data.files import Files
from hebm.data.image_names import IMAGES
from hebm.data.images import Images, to_unit_range
from hebm.errors import DataError

_SKIP = "skip such files with --corrupt skip"


class FileImages(Images):
    """The image files of a folder, an archive or a list, decoded to the shape that a model takes.

    All files are decoded once to find files that are not images. After that, each read decodes its files again.

    Arguments:
        files: the files.
        shape: (C, H, W) that the model takes.
        decoder: decoder of files: `DatasetRecipe.decoder` of the data that the model was trained on.
        skip: leave out files that are not images, instead of raising an error.
        told: called after each file with the number of tried files and of all files.

    Attributes:
        names: names of the files, with / between folders.
        note: lists all files that were left out, with reasons; "" if none was.

    Raises `DataError` that lists all files that are not images, or names one whose pixels have another shape, and for
    an empty folder.
    """

    def __init__(
        self,
        files: Files,
        shape: Shape,
        decoder: ImageDecoder,
        skip: bool = False,
        told: Callable[[int, int], None] | None = None,
    ) -> None:
        self.files, self.shape, self.decoder = files, shape, decoder
        names = files.names
        bad = corrupt_files(files, list(dict.fromkeys(names)), self._shaped, told)
        if bad and not skip:
            raise corrupt_error(bad, len(names), _SKIP)
        self.note = corrupt_note(bad, len(names)) if bad else ""
        self.names = [name for name in names if name not in bad]
        if not self.names:
            fix = f"put {', '.join(IMAGES[:3])} files there, or name another"
            left = f" that can be read; {fix}\n{self.note}" if bad else f"; {fix}"
            raise DataError(f"{files.path}: no image files{left}")

    def __str__(self) -> str:
        return str(self.files.path)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.names)

    def read(self, indices: Tensor) -> Tensor:
        """Decode each file. Raises `DataError` that names a file that has changed and can no longer be decoded."""
        return torch.stack([to_unit_range(self._pixels(i)) for i in indices.tolist()])

    def fingerprint(self) -> str:
        """Hash all names and 64 evenly spaced decoded images."""
        return self.digest("\n".join(self.names).encode(errors="surrogatepass"), self.sample_digest())

    def _pixels(self, i: int) -> Tensor:
        name = self.names[i]
        try:
            return self._shaped(self.files.read(name), self.files.describe(name))
        except CorruptImage as error:
            raise corrupt_error({name: error}, 1, _SKIP) from error

    def _shaped(self, data: bytes | Picture, path: str) -> Tensor:
        """Return the pixels of a file. Raises `DataError` if their shape is not the model's."""
        pixels, (_, height, width) = self.decoder(data, path), self.shape
        if pixels.shape != self.shape:
            size = f"is {pixels.shape[2]}×{pixels.shape[1]} pixels, the model's images are {width}×{height}"
            raise DataError(f"{path}: {size}; resize it (only square ones are resized here)")
        return pixels
