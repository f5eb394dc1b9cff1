"""Read encoded images from an LMDB database, the format of LSUN."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from torch import Tensor

from hebm.data.decode import Decoder
from hebm.errors import DataError


class LMDBImages:
    """Maps a position to the pixels of an image.

    Each call opens the database, because worker processes must not inherit an open database or open it twice. This
    takes microseconds, since LMDB maps the file into memory.

    Arguments:
        folder: the folder of the database.
        decoder: decodes a value to pixels.
        limit: the largest number of keys to list; None lists all.

    Raises:
        DataError: the package lmdb is not installed, or `folder` is not a readable database.
    """

    def __init__(self, folder: Path, decoder: Decoder, limit: int | None = None) -> None:
        self.folder, self.decoder = folder, decoder
        with _open(folder) as database, database.begin() as transaction:
            keys = transaction.cursor().iternext(keys=True, values=False)
            self.keys = [bytes(key) for key in itertools.islice(keys, limit)]

    def __call__(self, i: int) -> Tensor:
        """Decode the image in value i of the database."""
        with _open(self.folder) as database, database.begin() as transaction:
            data = bytes(transaction.get(self.keys[i]))
        return self.decoder(data, f"{self.folder}, key {self.keys[i].decode('ascii', 'replace')}")


def _open(folder: Path) -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise DataError(f"{folder}: reading LSUN needs the package lmdb: pip install lmdb") from error
    if not folder.is_dir():
        fix = "download and unzip it there, or set data.root and data.category"
        raise DataError(f"{folder.absolute()}: database not found; {fix}")
    try:
        return lmdb.open(str(folder), readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise DataError(f"{folder}: cannot be read ({error}); unzip it again, or set data.root") from error
