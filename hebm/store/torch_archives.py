"""Check a `.pt` file before torch reads it, since torch does not check checksums or sizes of its parts."""

from __future__ import annotations

import zipfile
from pathlib import Path

_CHUNK = 1 << 20
_EXPANSION = 100
"""The maximum ratio of the size of all parts to the size of the file. Torch does not compress parts."""


def require_whole(path: Path) -> list[str]:
    """Verify the parts of a `.pt` file that is a zip archive. Older files are not archives and have no checksums.

    Returns a note if the file has no checksums. Raises `ValueError` for a part that does not match its checksum and for
    parts that expand to much more than the file, and errors of `zipfile` for a damaged archive.
    """
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return ["the file has torch's older format without checksums, so damage to its weights cannot be detected"]
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        held, size = sum(part.file_size for part in parts), path.stat().st_size
        if held > _EXPANSION * size:
            raise ValueError(
                f"it expands from {size:,} to {held:,} bytes, but at most {_EXPANSION} times the size is allowed"
            )
        full = [part for part in parts if part.file_size]
        wrong = [part.filename for part in full if not _matches_its_sum(archive, part)]
    if not wrong:
        return []
    if len(wrong) == len(full):
        return ["the file was saved without checksums, so damage to its weights cannot be detected"]
    raise ValueError(f"the checksum of {wrong[0]} does not match")


def _matches_its_sum(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(part) as stream:
            while stream.read(_CHUNK):
                pass
    except zipfile.BadZipFile:
        return False
    return True
