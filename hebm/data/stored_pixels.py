"""Store decoded image files on the disk, so that later commands need not decode them again.

    <cache folder>/images/<root>-<key>/     a table with one row of pixels per file (`hebm.store.row_files`)

The key depends on the path, on the name, size and times of every file, on the decoder, and on the versions of Pillow's
codecs. So a changed file or recipe gets another table. Every row has a hash, which each process checks before it uses
the row. Damaged rows are decoded again. The shape of the images is in about.json, with a hash.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import attrs
import PIL
import torch
from PIL import features
from torch import Tensor

from hebm.config.paths import expanded
from hebm.config.settings import RunSettings
from hebm.data.corrupt import decoded
from hebm.data.decode import CorruptImage, ImageDecoder, Shape
from hebm.data.file_facts import storing_facts
from hebm.data.files import Files
from hebm.data.images import shape_mismatch
from hebm.errors import CheckpointError, DataWarning
from hebm.store.durable import read_file
from hebm.store.json_shapes import ShapeError, parsed, shaped
from hebm.store.row_cache import RowCache
from hebm.store.row_files import ABOUT, InFiles, about
from hebm.store.rows import Column, Table

LAYOUT = 1
"""Raise it if the same files and recipe would be decoded to other pixels."""
KIND = "images"
_PIXELS = "pixels"
_CACHE: ContextVar[RowCache] = ContextVar("cache of decoded images", default=RowCache())


@contextmanager
def storing_pixels(run: RunSettings) -> Iterator[None]:
    """Let data sets that are loaded in the context store decoded images, up to `cache_limit` in `cache_folder`.

    They may also store facts about their files (`hebm.data.file_facts`).
    """
    token = _CACHE.set(RowCache(Path(expanded(run.cache_folder)) / KIND, run.cache_limit))
    try:
        with storing_facts(run):
            yield
    finally:
        _CACHE.reset(token)


@attrs.frozen
class _About:
    """The content of about.json that is read: shape and type of each column."""

    format: int
    rows: int
    block: int
    columns: Mapping[str, tuple[tuple[int, int, int], str]]
    identity: Mapping[str, Any]


class StoredPixels:
    """The decoded pixels of image files, in a table on the disk.

    Arguments:
        files: the folder or archive.
        names: names of the files; row i belongs to file i.
        decoder: decoder of the files.
        place: the table.
    """

    def __init__(self, files: Files, names: Sequence[str], decoder: ImageDecoder, place: InFiles) -> None:
        self.files, self.names, self.decoder = files, names, decoder
        self._place, self._ready, self._storing = place, set[int](), True
        self._kept = place.kept_sums()

    @property
    def pixels(self) -> Tensor:
        """The rows `(N, C, H, W)`, uint8, mapped from the disk. Only rows that were filled or taken may be read."""
        return self._place.tensors[_PIXELS]

    def fill(self) -> dict[int, CorruptImage]:
        """Verify all rows, and decode missing and damaged ones. Waits while another process does.

        Returns the errors of files that cannot be read as images, by row. Raises `DataError` for an image of another
        shape, and `CheckpointError` if the table cannot be written.
        """
        with self._place.writing():
            missing = self._missing()
            rows = {self.names[i]: i for i in missing}
            bad = dict[int, CorruptImage]()
            for name, pixels in decoded(self.files, list(rows), self.decoder):
                if isinstance(pixels, CorruptImage):
                    bad[rows[name]] = pixels
                else:
                    self._write(rows[name], pixels)
        self._ready = set(range(len(self.names))) - set(bad)
        return bad

    def take(self, row: int, decode: Callable[[], Tensor]) -> Tensor:
        """Return a row, `(C, H, W)`. If it is missing or damaged, decode the file and store it.

        If the table cannot be written, a `DataWarning` says so once, and images are then decoded without storing them.
        """
        if row not in self._ready and not self._intact(row):
            pixels = decode()
            if not self._stored(row, pixels):
                return pixels
        self._ready.add(row)
        return self.pixels[row]

    def _intact(self, row: int) -> bool:
        try:
            kept = self._kept[row] or self._place.kept_sum(row)  # another process may have stored it since
        except CheckpointError:  # the table was removed meanwhile, which is reported when it is written
            return False
        intact = kept is not None and kept == self._place.sum_of(row)
        if kept is not None and not intact:
            self._warn_of_damage(1)
        return intact

    def _stored(self, row: int, pixels: Tensor) -> bool:
        if self._storing:
            try:
                self._write(row, pixels)
            except CheckpointError as error:
                self._storing = False
                warnings.warn(not_stored(error), DataWarning, stacklevel=2)
        return self._storing

    def _missing(self) -> list[int]:
        """Return the rows that are not stored or damaged."""
        kept = self._place.kept_sums()
        damaged = [i for i, found in enumerate(kept) if found is not None and found != self._place.sum_of(i)]
        if damaged:
            self._warn_of_damage(len(damaged))
        return sorted({*damaged, *(i for i, found in enumerate(kept) if found is None)})

    def _write(self, row: int, pixels: Tensor) -> None:
        shape, expected = _triple(pixels), _triple(self.pixels[0])
        if shape != expected:
            raise shape_mismatch(self.files.describe(self.names[row]), shape, expected)
        self._place.write(row, {_PIXELS: pixels[None]})

    def _warn_of_damage(self, count: int) -> None:
        what = "1 stored image is" if count == 1 else f"{count:,} stored images are"
        warnings.warn(f"{self._place.folder}: {what} damaged, decoded again", DataWarning, stacklevel=3)


def stored_pixels(files: Files, names: Sequence[str], decoder: ImageDecoder) -> StoredPixels | None:
    """Open the table of the decoded files; create it if needed.

    Arguments:
        files: the folder or archive.
        names: names of the files.
        decoder: decoder of the files, an attrs class whose repr says everything that the pixels depend on.

    Returns None outside of `storing_pixels`, and if no file can be decoded. It also returns None, with a `DataWarning`,
    if the table does not fit into the cache folder or cannot be written.
    """
    cache = _CACHE.get()
    if cache.folder is None or not attrs.has(type(decoder)):
        return None
    identity = _identity(files, names, decoder)
    path = cache.folder / _folder_name(files.path, identity)
    shape = _known_shape(path, identity, len(names)) or _decoded_shape(files, names, decoder)
    if shape is None:
        return None
    table = _table(shape, len(names))
    try:
        place = cache.place(path, _about(identity, table), table)
        if not isinstance(place, str):
            return StoredPixels(files, names, decoder, place)
    except CheckpointError as error:
        warnings.warn(not_stored(error), DataWarning, stacklevel=2)
        return None
    fix = "raise run.cache_limit, or change run.cache_folder"
    warnings.warn(f"{files.path}: decoded images are not stored: they {place}; {fix}", DataWarning, stacklevel=2)
    return None


def not_stored(error: CheckpointError) -> str:
    """Return the note that decoded images cannot be stored."""
    return f"decoded images are not stored: {error}"


def _identity(files: Files, names: Sequence[str], decoder: ImageDecoder) -> Mapping[str, Any]:
    """Return everything that the pixels depend on, as JSON values."""
    listed = json.dumps([names, files.stamps(names)])
    codecs = {name: features.version(name) for name in features.get_supported()}
    return {
        "layout": LAYOUT,
        "path": str(files.path.absolute()),
        "files": hashlib.sha256(listed.encode()).hexdigest(),
        "decoder": f"{type(decoder).__module__}.{decoder!r}",
        "pillow": {"version": PIL.__version__, **codecs},
    }


def _folder_name(root: Path, identity: Mapping[str, Any]) -> str:
    readable = re.sub(r"[^\w.-]", "-", root.absolute().name, flags=re.ASCII)[:40]
    return f"{readable}-{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]}"


def _table(shape: Shape, rows: int) -> Table:
    return Table({_PIXELS: Column(shape, torch.uint8)}, rows, block=1)


def _about(identity: Mapping[str, Any], table: Table) -> bytes:
    """Return the content of about.json, with a hash that also covers the shape."""
    return about({"of": identity, "sha256": hashlib.sha256(about(identity, table)).hexdigest()}, table)


def _known_shape(path: Path, identity: Mapping[str, Any], rows: int) -> Shape | None:
    """Return the shape of the stored images from about.json; None if it is missing or damaged."""
    try:
        text = read_file(path / ABOUT)
        shape = shaped(_About, parsed(text)).columns[_PIXELS][0]
    except (OSError, ShapeError, KeyError):
        return None
    return shape if text == _about(identity, _table(shape, rows)) else None


def _decoded_shape(files: Files, names: Sequence[str], decoder: ImageDecoder) -> Shape | None:
    """Return the shape of the first image that can be read; None without one."""
    found = (pixels for _, pixels in decoded(files, names, decoder) if isinstance(pixels, Tensor))
    first = next(found, None)
    return None if first is None else _triple(first)


def _triple(image: Tensor) -> tuple[int, int, int]:
    channels, height, width = image.shape
    return channels, height, width
