"""Embed pictures of a run's folder in the page."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path

from PIL import Image

from hebm.errors import CheckpointError, DataWarning
from hebm.report.panels import data_address
from hebm.store.durable import read_file, reporting


def picture_address(path: Path, maker: str) -> str | None:
    """Return a PNG as a `data:` address. If it does not exist, warn and return None.

    Arguments:
        path: path of the picture.
        maker: the command that creates it again.

    Raises `CheckpointError` for a file that cannot be read, is not a PNG, or differs from its own checksums.
    """
    if not os.path.lexists(path):
        warnings.warn(f"{path} is missing, so the page has no picture there; {maker} makes it again", DataWarning, 2)
        return None
    with reporting(f"read {path}"):
        content = read_file(path)
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            picture.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CheckpointError(f"{path} is damaged (it is not a whole PNG); make it again with {maker}") from error
    return data_address(content, "image/png")
