"""Choose the format in which images are written, by the ending of a path.

Rows are 8-bit pixels `(B, C, H, W)`; arrays have the axes (N, H, W, C).
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from hebm.data.archives import ARCHIVES
from hebm.data.image_names import IMAGES
from hebm.errors import ConfigError
from hebm.outputs.array_outputs import GridFile, NpyFile, NpzFile
from hebm.outputs.drawn import Drawn
from hebm.outputs.png_folder import PngFolder
from hebm.outputs.resumable import Writer

_KINDS = "a folder of PNGs, FILE.npz, FILE.npy, or GRID.png for one picture"
_OTHERS = (*(name for name in IMAGES if name != ".png"), *ARCHIVES, ".csv", ".pt", ".safetensors", ".lmdb")


def image_writer(target: Path, drawn: Drawn, columns: int = 8) -> Writer[Tensor]:
    """Return the writer for the ending of a path.

    Arguments:
        target: a folder, or a file that ends in .npz, .npy or .png.
        drawn: the images to write: number, shape and labels.
        columns: number of images per row of a picture.

    Raises `ConfigError` for another ending, or a picture that would be too large.
    """
    end = target.suffix.lower()
    if end == ".npz":
        return NpzFile(target, drawn)
    if end == ".npy":
        return NpyFile(target, drawn)
    if end == ".png":
        return GridFile(target, drawn, columns)
    if target.name.lower().endswith(_OTHERS) and not target.is_dir():
        raise ConfigError(f"-o {target}: images are not written as {end}; give {_KINDS}")
    return PngFolder(target, drawn)
