"""All image files of a user, in the order of their names."""

from __future__ import annotations

import torch
from torch import Tensor

from hebm.data.decode import CorruptImage, ImageDecoder, Shape
from hebm.data.files import Files
from hebm.data.image_names import IMAGES
from hebm.data.images import Images, to_unit_range
from hebm.errors import DataError


class FileImages(Images):
    """Every image file of a folder or archive, in the shape that a model takes.

    Arguments:
        files: where they are.
        shape: (C, H, W) that the model takes.
        decoder: makes pixels of a file: `DatasetRecipe.decoder` of the data that the model was trained on.
        skip: leave out files that are not images, instead of stopping at the first.

    Attributes:
        names: of the files, with / between folders.
        skipped: what was wrong with each file that was left out.

    Raises `DataError` naming a file that cannot be read or whose pixels have another shape, and for an empty folder.
    """

    def __init__(self, files: Files, shape: Shape, decoder: ImageDecoder, skip: bool = False) -> None:
        self.files, self.shape, self.decoder = files, shape, decoder
        self.skipped: list[str] = []
        self.names = list(files.names)
        if skip:
            self.names = [name for name in self.names if self._good(name)]
        if not self.names:
            left = f" that can be read ({len(self.skipped)} cannot)" if self.skipped else ""
            raise DataError(
                f"{files.path}: no image files{left}; put {', '.join(IMAGES[:3])} files there, or name another"
            )

    def __str__(self) -> str:
        return str(self.files.path)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.names)

    def read(self, indices: Tensor) -> Tensor:
        """Decode each file. Raises `DataError` naming one that cannot be."""
        return torch.stack([to_unit_range(self._pixels(self.names[i])) for i in indices.tolist()])

    def fingerprint(self) -> str:
        """Hash all names, and 64 evenly spaced images as decoded."""
        return self.digest("\n".join(self.names).encode(errors="surrogatepass"), self.sample_digest())

    def _good(self, name: str) -> bool:
        try:
            self._pixels(name)
        except CorruptImage as error:
            self.skipped.append(f"left out: {str(error).partition('; ')[0]}")
            return False
        return True

    def _pixels(self, name: str) -> Tensor:
        path, (_, height, width) = self.files.describe(name), self.shape
        data = self.files.read(name)
        try:
            pixels = self.decoder(data, path)
        except CorruptImage as error:
            cause = str(error).partition("; ")[0]  # what follows is advice for a data set
            raise CorruptImage(f"{cause}; fix or remove it, or leave such files out by --corrupt skip") from error
        if pixels.shape != self.shape:
            size = f"is {pixels.shape[2]}×{pixels.shape[1]} pixels, the model's images are {width}×{height}"
            raise DataError(f"{path}: {size}; resize it (only square ones are resized here)")
        return pixels
