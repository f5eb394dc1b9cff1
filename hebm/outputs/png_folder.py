"""Write images to a folder of PNGs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from torch import Tensor

from hebm.data.image_names import is_named_image
from hebm.errors import DataError
from hebm.outputs.drawn import Drawn
from hebm.outputs.journal import Place
from hebm.outputs.resumable import Writer

_NUMBERED = re.compile(r"\d{6,}\.png")


class PngFolder(Writer[Tensor]):
    """Writes FOLDER/000000.png, …: each file under a temporary name first.

    Arguments:
        target: the folder.
        drawn: the images to write: number, shape and labels.
    """

    def __init__(self, target: Path, drawn: Drawn) -> None:
        super().__init__(target)
        self.drawn = drawn
        self._temporary = target / ".tmp-image"

    def finished(self) -> str:
        """Return whether the folder already has images."""
        return f"{self.target} holds images already" if any(map(is_named_image, self._names())) else ""

    def require_place(self) -> None:
        """Raise `DataError` for a file, or for a folder with other images, which could be mistaken for draws."""
        if self.target.exists() and not self.target.is_dir():
            raise DataError(f"{self.target} is a file; name a folder for PNGs, or FILE.npz")
        other = next((name for name in self._names() if is_named_image(name) and not _NUMBERED.fullmatch(name)), None)
        if other is not None:
            raise DataError(
                f"{self.target} already has images that are not draws, such as {other}; name another folder"
            )

    def clear(self) -> None:
        """Remove the numbered images of an earlier output."""
        for name in list(filter(_NUMBERED.fullmatch, self._names())):
            (self.target / name).unlink()

    def start(self) -> None:
        """Create the folder if it is missing."""
        self.target.mkdir(parents=True, exist_ok=True)

    def resume(self, place: Place) -> Place:
        """Return the place of the first image that is missing or empty."""
        self.start()
        return Place(next((i for i in range(place.rows) if not self._is_there(i)), place.rows))

    def write(self, first: int, rows: Tensor) -> Place:
        """Write one PNG per row."""
        for i, array in enumerate(rows.permute(0, 2, 3, 1).numpy(), first):
            picture = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
            picture.save(self._temporary, "PNG")
            os.replace(self._temporary, self.target / _name(i))
        return Place(first + len(rows))

    def finish(self) -> None:
        """Do nothing: the images are already in their place."""

    def close(self) -> None:
        """Remove temporary files of an interrupted output."""
        self._temporary.unlink(missing_ok=True)

    def _is_there(self, i: int) -> bool:
        path = self.target / _name(i)
        return path.is_file() and path.stat().st_size > 0

    def _names(self) -> Iterator[str]:
        """Yield the names in the folder, of which there may be millions."""
        if self.target.is_dir():
            with os.scandir(self.target) as entries:
                yield from (entry.name for entry in entries)


def _name(i: int) -> str:
    return f"{i:06d}.png"
