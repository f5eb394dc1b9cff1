"""Recognise image files by the ending of their name or by their first bytes."""

from __future__ import annotations

import re
from pathlib import Path

IMAGES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2"),
)
"""Name endings of image files, in lower case. Files with other endings are images if they start like one."""
HEAD = 16
"""Number of bytes that `starts_like_image` needs."""
TABLES = (".parquet", ".arrow")
"""Name endings of the tables in which the library `datasets` stores images."""
ARRAYS = (".npy", ".npz")
"""Name endings of files of NumPy arrays."""
_STARTS = re.compile(
    rb"""\x89PNG\r\n\x1a\n | \xff\xd8\xff | GIF8[79]a | RIFF....WEBP | II\*\x00 | MM\x00\*
    | BM....\x00\x00\x00\x00 | P[1-6]\s+[\#\d] | \x00\x00\x00\x0cjP[ ]{2}""",
    re.VERBOSE | re.DOTALL,
)


def is_named_image(name: str) -> bool:
    """Return whether a file name has the ending of an image file."""
    return name.lower().endswith(IMAGES)


def starts_like_image(head: bytes) -> bool:
    """Return whether a file is an image by its first bytes: PNG, JPEG, GIF, WebP, TIFF, BMP, PNM or JPEG 2000."""
    return _STARTS.match(head) is not None


def advice_for_other_data(root: Path) -> str:
    """Return which data set reads a place that holds tables or arrays and no image files; "" for any other place."""
    for file in root.rglob("*") if root.is_dir() else (root,):
        if file.suffix.lower() in TABLES:
            use = f"use the data set huggingface with data.path = {str(root)!r}"
            return f"it holds a data set of the library datasets: {use}"
        if file.suffix.lower() in ARRAYS:
            return f"it holds NumPy arrays: use the data set arrays with data.train = {str(file)!r}"
    return ""


def is_resource_fork(name: str) -> bool:
    """Return whether a file is one that macOS writes next to another: `._a.png`, or anything in `__MACOSX`."""
    parts = name.split("/")
    return "__MACOSX" in parts or parts[-1].startswith("._")


def is_hidden(name: str) -> bool:
    """Return whether a part of a name starts with a dot."""
    return any(part.startswith(".") for part in name.split("/"))


def normal_name(name: str) -> str:
    """Normalise the name of an archive's member: slashes between folders, without a leading slash or "./".

    Archives from Windows may separate folders by backslashes.
    """
    parts = (name if "/" in name else name.replace("\\", "/")).split("/")
    return "/".join(part for part in parts if part not in ("", "."))
