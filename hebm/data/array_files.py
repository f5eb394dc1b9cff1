"""Map arrays in .npy and .npz files into memory without reading them.

The size in a header is compared with the size of the file before anything is allocated. An array that is compressed
within an .npz is read as a whole, if it fits into memory.
"""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np

from hebm.errors import DataError
from hebm.memory import available_memory

_FIX = "save plain numbers with numpy.save or numpy.savez (arrays of Python objects are refused)"
_DAMAGE = (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error, struct.error)
_CHUNK = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
"""Header of a zip member. Its last two fields are the lengths of name and extra field, which precede the data."""


def mapped_array(path: Path, name: str | None = None) -> np.ndarray:
    """Return an array, read-only and mapped into memory if possible.

    Arguments:
        path: path of an .npy or .npz file.
        name: name of the array in an .npz file; None for an .npy file.

    Raises `DataError` if the file cannot be read, is damaged, or claims more data than it holds.
    """
    with _reading(path):
        if name is None:
            return _npy(path)
        with zipfile.ZipFile(path) as archive:
            return _entry(archive, path, f"{name}.npy")


def names_in(path: Path) -> list[str]:
    """Return the names of the arrays in an .npz. Raises `DataError` if it cannot be read."""
    with _reading(path), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Convert the exceptions of damaged files to `DataError`."""
    try:
        yield
    except _DAMAGE as error:
        cause = "out of memory" if isinstance(error, MemoryError) else error
        raise DataError(f"{path}: cannot be read as .npy or .npz ({cause}); {_FIX}") from error


def _npy(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        header = _header(file)
    return _mapped(path, header, header.size, path.stat().st_size - header.size)


def _entry(archive: zipfile.ZipFile, path: Path, name: str) -> np.ndarray:
    info = archive.getinfo(name)
    with archive.open(info) as file:
        header = _header(file)
        held = info.file_size - header.size
        if info.compress_type == zipfile.ZIP_STORED:
            while file.read(_CHUNK):  # zipfile compares the checksum at the end
                pass
            return _mapped(path, header, _data_offset(path, info) + header.size, held)
        header.require(held)
        limit = available_memory()
        if limit is not None and header.nbytes > limit:
            taken, left = (f"{size / 2**30:,.1f} GiB" for size in (header.nbytes, limit))
            has = f"takes {taken} when it is unpacked, this machine has {left} available"
            raise ValueError(f"{name} {has}: save it uncompressed, by numpy.savez")
        return header.array(file.read(header.nbytes))


class _Header(NamedTuple):
    """The header of an .npy file: shape, order and type of the array, and the header's size in bytes."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    size: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def require(self, held: int) -> None:
        """Raise `ValueError` for an array of Python objects, or one that is larger than the file."""
        if self.dtype.hasobject:
            raise ValueError("it holds Python objects")
        if self.nbytes > held:
            raise ValueError(
                f"its header claims {self.nbytes:,} bytes for shape {self.shape}, but it holds {max(0, held):,}"
            )

    @property
    def order(self) -> Literal["C", "F"]:
        return "F" if self.fortran else "C"

    def array(self, data: bytes) -> np.ndarray:
        return np.frombuffer(data, self.dtype).reshape(self.shape, order=self.order)


def _header(file: IO[bytes]) -> _Header:
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the .npy format")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return _Header(shape, fortran, dtype, file.tell())


def _mapped(path: Path, header: _Header, offset: int, held: int) -> np.ndarray:
    header.require(held)
    if not header.nbytes:
        return np.empty(header.shape, header.dtype)
    return np.memmap(path, header.dtype, mode="r", offset=offset, shape=header.shape, order=header.order)


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Return the offset in the file at which the data of an uncompressed member starts."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        *_, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return info.header_offset + _LOCAL_HEADER.size + int(name) + int(extra)
