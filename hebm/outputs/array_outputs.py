"""Write images to one .npy, .npz or picture file. Rows first go to an .npy file next to it."""

from __future__ import annotations

import errno
import io
import math
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from hebm.data.decode import MOST_PIXELS
from hebm.data.images import to_unit_range
from hebm.errors import ConfigError
from hebm.outputs.drawn import Drawn
from hebm.outputs.journal import Place
from hebm.outputs.one_file import OneFile
from hebm.report.grids import grid, grid_size

_ROWS = 1 << 16
"""Number of rows of labels that are written at a time."""


class ArrayFile(OneFile[Tensor]):
    """Writes images to an .npy file whose header has the final number of images from the start.

    Arguments:
        target: the final file.
        drawn: the images to write: number, shape and labels.
    """

    copies = 1
    """Number of copies of the pixels on disk just before the output is finished."""

    def __init__(self, target: Path, drawn: Drawn) -> None:
        super().__init__(target)
        self.drawn = drawn
        channels, height, width = drawn.shape
        self.shape = (drawn.number, height, width, channels)

    @property
    def row(self) -> int:
        """The size of an image in bytes."""
        return math.prod(self.shape[1:])

    @property
    def _whole(self) -> Path:
        """The temporary path of the file that is made from the array."""
        return self.target.with_name(f"{self.target.name}.partial-whole")

    def clear(self) -> None:
        """Remove the unfinished files. A finished file stays until it is replaced."""
        super().clear()
        self._whole.unlink(missing_ok=True)

    def start(self) -> None:
        """Write the header, and reserve space for all rows."""
        need, free = self.copies * self.row * self.drawn.number, shutil.disk_usage(self.target.parent).free
        if need > free:
            what = f"{self.drawn.number:,} images need {need:,} bytes, but only {free:,} are free"
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {what}", str(self.target))
        self._file = self.partial.open("w+b")
        self._file.write(self._header())
        self._file.truncate(len(self._header()) + self.row * self.drawn.number)
        self._file.flush()

    def resume(self, place: Place) -> Place:
        """Open the file again. If it is missing and all rows were written, it is already in its final place."""
        whole = len(self._header()) + self.row * self.drawn.number
        if self.partial.exists() and self.partial.stat().st_size == whole:
            self._file = self.partial.open("r+b")
            return place
        if place.rows == self.drawn.number and self.target.exists() and not self.partial.exists():
            return place
        self.start()
        return Place()

    def write(self, first: int, rows: Tensor) -> Place:
        """Write rows to their place in the array."""
        file = self._open_file()
        file.seek(len(self._header()) + self.row * first)
        file.write(rows.permute(0, 2, 3, 1).contiguous().numpy().tobytes())
        file.flush()
        os.fsync(file.fileno())
        return Place(first + len(rows))

    def finish(self) -> None:
        """Rename the file, or convert it to the target's format."""
        self.close()
        if self.partial.exists():
            self._publish()

    def _publish(self) -> None:
        os.replace(self.partial, self.target)

    def _replace_target(self, write: Callable[[Path], None]) -> None:
        """Write the target under a temporary name, rename it, and remove the array."""
        write(self._whole)
        os.replace(self._whole, self.target)
        self.partial.unlink(missing_ok=True)

    def _header(self) -> bytes:
        return npy_header(self.shape, np.dtype(np.uint8))


class NpyFile(ArrayFile):
    """Writes FILE.npy, uint8 (N, H, W, C)."""


class NpzFile(ArrayFile):
    """Writes FILE.npz with `images`, and with `labels` and their names `classes` or `attributes` if requested."""

    copies = 2

    def _publish(self) -> None:
        self._replace_target(self._write)

    def _write(self, path: Path) -> None:
        """Write the archive uncompressed, so that it can be read in place."""
        with zipfile.ZipFile(path, "w") as archive:
            with self.partial.open("rb") as images, _member(archive, "images") as member:
                shutil.copyfileobj(images, member, 1 << 20)
            if self.drawn.turns is not None:
                self._write_labels(archive, self.drawn.turns)

    def _write_labels(self, archive: zipfile.ZipFile, turns: Tensor) -> None:
        number = self.drawn.number
        with _member(archive, "labels") as member:
            member.write(npy_header((number, *turns.shape[1:]), np.dtype(np.int64)))
            for first in range(0, number, _ROWS):
                some = turns[torch.arange(first, min(first + _ROWS, number)) % len(turns)]
                member.write(some.numpy().tobytes())
        for name, names in (("classes", self.drawn.classes), ("attributes", self.drawn.attributes)):
            if names:
                with _member(archive, name) as member:
                    np.lib.format.write_array(member, np.array(names), allow_pickle=False)


class GridFile(ArrayFile):
    """Writes one picture of all images, row by row.

    Arguments:
        target: path of the PNG.
        drawn: the images to write: number, shape and labels.
        columns: number of images per row.

    Raises `ConfigError` if the picture would be too large.
    """

    def __init__(self, target: Path, drawn: Drawn, columns: int) -> None:
        super().__init__(target, drawn)
        self.columns = columns
        width, height = grid_size(drawn.number, drawn.shape[1:], columns)
        if width * height > MOST_PIXELS:
            raise ConfigError(
                f"-o {target}: a picture of {drawn.number:,} images has {width:,} × {height:,} pixels, more than "
                f"{MOST_PIXELS:,}; draw fewer (-n), or give a folder or FILE.npz"
            )

    def _publish(self) -> None:
        self._replace_target(self._write)

    def _write(self, path: Path) -> None:
        pixels = torch.from_numpy(np.load(self.partial)).permute(0, 3, 1, 2)
        grid(to_unit_range(pixels), self.columns).save(path, "PNG")


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    return archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True)  # a fixed date: equal bytes


def npy_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """Return the header of an .npy file."""
    buffer = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()
