"""All image files of a user, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from hebm.data.corrupt import corrupt_error, corrupt_files, corrupt_note
from hebm.data.decode import CorruptImage, ImageDecoder, Picture, Shape
from hebm.data.files import Files
from hebm.data.image_names import IMAGES
from hebm.data.images import Images, to_unit_range
from hebm.errors import DataError

_SKIP = "leave such files out by --corrupt skip"


class FileImages(Images):
    """Every image file of a folder, an archive or a list, in the shape that a model takes.

    All files are decoded once to find those that are not images. After that they are read when they are asked for, and
    none is kept. They are in the order of their names; those of a compressed tar in the archive's order, so that
    reading them one after another takes one pass.

    Arguments:
        files: where they are.
        shape: (C, H, W) that the model takes.
        decoder: makes pixels of a file: `DatasetRecipe.decoder` of the data that the model was trained on.
        skip: leave out files that are not images, instead of refusing them.
        told: how many files were tried, of how many; after each.

    Attributes:
        names: of the files, with / between folders.
        note: names all files that were left out, with the reasons; "" if there are none.

    Raises `DataError` naming all files that are not images, or one whose pixels have another shape, and for an empty
    folder.
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
        names = files.in_reading_order()
        bad = corrupt_files(files, list(dict.fromkeys(names)), self._shaped, told)
        if bad and not skip:
            raise corrupt_error(bad, len(names), _SKIP)
        self.note = corrupt_note(bad, len(names)) if bad else ""
        self.names = [name for name in names if name not in bad]
        self._stream: Iterator[tuple[str, bytes]] = iter(())
        self._next = len(self.names)
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
        """Decode each file. Raises `DataError` naming one that has changed and cannot be decoded any more."""
        return torch.stack([to_unit_range(self._pixels(i)) for i in indices.tolist()])

    def fingerprint(self) -> str:
        """Hash all names, and 64 evenly spaced images as decoded."""
        return self.digest("\n".join(self.names).encode(errors="surrogatepass"), self.sample_digest())

    def _pixels(self, i: int) -> Tensor:
        name = self.names[i]
        try:
            data = self.files.read(name) if self.files.seekable else self._streamed(i)
            return self._shaped(data, self.files.describe(name))
        except CorruptImage as error:
            raise corrupt_error({name: error}, 1, _SKIP) from error

    def _streamed(self, i: int) -> bytes:
        """Return the bytes of file i from the pass that is under way, or from a new one if that is beyond it."""
        if i < self._next:
            self._stream, self._next = self.files.stream(self.names[i:]), i
        for name, data in self._stream:
            self._next += 1
            if name == self.names[i]:
                return data
        raise DataError(
            f"{self.files.describe(self.names[i])}: is no longer in the archive; leave it as it is meanwhile"
        )

    def _shaped(self, data: bytes | Picture, path: str) -> Tensor:
        """Return the pixels of a file. Raises `DataError` for another shape than the model's."""
        pixels, (_, height, width) = self.decoder(data, path), self.shape
        if pixels.shape != self.shape:
            size = f"is {pixels.shape[2]}×{pixels.shape[1]} pixels, the model's images are {width}×{height}"
            raise DataError(f"{path}: {size}; resize it (only square ones are resized here)")
        return pixels
