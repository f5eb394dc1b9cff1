"""Compose pictures of a run's images for notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw

from hebm.errors import HebmError
from hebm.evaluation.kinds import KINDS
from hebm.report.plot_data import read_plots
from hebm.store.run_folder import RunFolder

_GAP = 12
_TITLE = 16


def sample_pictures(folder: RunFolder) -> Image.Image | None:
    """Return the grids of an evaluation side by side with titles; None if it has no grid.

    Raises `HebmError` for a damaged picture.
    """
    plots = read_plots(folder.samples)
    files = {} if plots is None else {kind.title: plots.images.get(name) for name, kind in KINDS.items()}
    grids: dict[str, Image.Image] = {}
    for title, file in files.items():
        picture = None if file is None else read_picture(folder.samples / Path(file).name)
        grids |= {} if picture is None else {title: picture}
    return side_by_side(grids) if grids else None


def read_picture(path: Path) -> Image.Image | None:
    """Read a picture in RGB; None if it does not exist. Raises `HebmError` if it is damaged."""
    try:
        if not path.is_file():
            return None
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise HebmError(f"{path} is damaged: {error}; make it again with hebm evaluate") from error


def side_by_side(pictures: Mapping[str, Image.Image]) -> Image.Image:
    """Return the pictures in a row, each below its title."""
    width = sum(picture.width for picture in pictures.values()) + _GAP * (len(pictures) - 1)
    height = max(picture.height for picture in pictures.values()) + _TITLE
    whole = Image.new("RGB", (width, height), "white")
    pen, left = ImageDraw.Draw(whole), 0
    for title, picture in pictures.items():
        pen.text((left, 2), title, fill="black")
        whole.paste(picture, (left, _TITLE))
        left += picture.width + _GAP
    return whole
