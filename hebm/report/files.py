"""Images to disk: a folder of PNGs, or one array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from hebm.errors import DataError


def save_images(pixels: Tensor, output: Path) -> None:
    """Write uint8 `(N, C, H, W)` as FILE.npz (`images`, `(N, H, W, C)`) or as FOLDER/000000.png, ….

    Raises `DataError` if the folder holds images already or cannot be written.
    """
    arrays = pixels.permute(0, 2, 3, 1).numpy()
    try:
        if output.suffix == ".npz":
            output.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(output, images=arrays)
            return
        output.mkdir(parents=True, exist_ok=True)
        if any(output.glob("*.png")):
            raise DataError(f"{output} holds images already; name another folder, or remove them")
        for i, array in enumerate(arrays):
            Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(output / f"{i:06d}.png")
    except OSError as error:
        raise DataError(f"cannot write {output}: {error}; name another place with -o") from error
