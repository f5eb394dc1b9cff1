"""Read image files from .zip and .tar archives in place, or from a folder.

Sizes are checked before anything is read, because a small archive may claim or hold more than fits into memory.
"""

from __future__ import annotations

import bisect
import os
import tarfile
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

from hebm.data.files import DAMAGE, Files, Folder
from hebm.data.image_names import HEAD, advice_for_other_data, is_named_image, normal_name
from hebm.data.unpacked import Unpacked
from hebm.errors import DataError

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
_DENSEST = 2000
"""Largest ratio of a member's size to the size of the tar archive."""


def is_archive(path: Path) -> bool:
    """Return whether a file name has the ending of an archive."""
    return path.name.lower().endswith(ARCHIVES)


def open_files(path: Path, key: str = "data.root") -> Files:
    """Open the image files in a folder or archive.

    Arguments:
        path: path of the folder or archive.
        key: name of the option that messages tell the user to set.

    Raises `DataError` if the path is neither.
    """
    if path.is_dir():
        return Folder(path, key)
    if not path.exists():
        tried = "" if path.is_absolute() else f" (tried {path.absolute()})"
        raise DataError(f"{path}: no such folder or archive{tried}; set {key} to a folder, .zip or .tar(.gz) of images")
    if not path.is_file() or not is_archive(path):
        advice = advice_for_other_data(path)
        hint = f"; {advice}" if advice else ""
        raise DataError(f"{path}: {key} must be a folder or an archive ({', '.join(ARCHIVES)}){hint}")
    return Zip(path, key) if path.name.lower().endswith(".zip") else Tar(path, key)


class Zip(Files):
    """A .zip archive. Every process opens it separately, because file positions must not be shared."""

    def __init__(self, path: Path, key: str = "data.root") -> None:
        self._archives: dict[int, zipfile.ZipFile] = {}
        self._raw: dict[str, str] = {}
        super().__init__(path, key)

    def __getstate__(self) -> dict[str, object]:
        """Return the state without open files, for workers that are not forked."""
        return {**self.__dict__, "_archives": {}}

    def has(self, name: str) -> bool:
        """Return whether the archive has a file of this name."""
        return name in self._raw

    def _list(self) -> Iterator[str]:
        for info in self._archive().infolist():
            name = normal_name(info.filename)
            if not info.is_dir() and not info.filename.endswith("\\") and name:
                self._raw[name] = info.filename
        yield from self._raw

    def _read(self, name: str) -> bytes:
        info = self._archive().getinfo(self._raw[name])
        self.require_size(name, info.file_size)
        return self._archive().read(info)

    def _head(self, name: str) -> bytes:
        with self._archive().open(self._raw[name]) as file:
            return file.read(HEAD)

    def _archive(self) -> zipfile.ZipFile:
        pid = os.getpid()
        if pid not in self._archives:
            self._archives[pid] = zipfile.ZipFile(self.path)
        return self._archives[pid]


class Tar(Files):
    """A tar archive. Files are read at their offsets; if it is compressed, in one pass or after unpacking."""

    def __init__(self, path: Path, key: str = "data.root") -> None:
        self.seekable = not _is_compressed(path, key)
        self._places: dict[str, tuple[int, int]] = {}
        self._heads: dict[str, bytes] = {}
        self._unpacked: Unpacked | None = None
        super().__init__(path, key)
        self._heads.clear()

    def __getstate__(self) -> dict[str, object]:
        """Return the state without the temporary file, for workers that are not forked."""
        return {**self.__dict__, "_unpacked": None}

    def has(self, name: str) -> bool:
        """Return whether the archive had a file of this name when it was opened."""
        return name in self._places

    def _list(self) -> Iterator[str]:
        most = _DENSEST * self.path.stat().st_size
        with tarfile.open(self.path, "r:*") as archive:
            for member in archive:
                name = normal_name(member.name)
                if member.issparse():
                    self.leave_out(name, "sparse files in a tar archive")
                elif member.size > most:
                    raise tarfile.ReadError(f"{name!r} claims {member.size:,} bytes, which is more than it can hold")
                elif member.isreg():
                    self._places[name] = (member.offset_data, member.size)
                    file = None if is_named_image(name) else archive.extractfile(member)
                    self._heads[name] = file.read(HEAD) if file else b""
                elif not member.isdir():
                    self.leave_out(name, "links, pipes and devices in a tar archive")
            _check_end(archive)
        yield from self._places

    def _head(self, name: str) -> bytes:
        return self._heads[name]

    def _read(self, name: str) -> bytes:
        offset, size = self._places[name]
        self.require_size(name, size)
        if not self.seekable:
            return self._in_any_order().read(name) if self._is_listed(name) else dict(self.stream([name]))[name]
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def _in_any_order(self) -> Unpacked:
        """Return all images of a compressed archive, which is unpacked on the first call."""
        if self._unpacked is None:
            sizes = {name: self._places[name][1] for name in self.names}
            wanted = {name: size for name, size in sizes.items() if not self.too_large(size)}
            self._unpacked = Unpacked(self.stream(wanted), sum(wanted.values()), str(self.path))
        return self._unpacked

    def _is_listed(self, name: str) -> bool:
        """Return whether a file is one of the images, by bisection of their sorted names."""
        i = bisect.bisect_left(self.names, name)
        return i < len(self.names) and self.names[i] == name

    def stream(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield files in the archive's order, in one pass."""
        left = set(wanted)
        for name in left:
            self.require_size(name, self._places[name][1])
        try:
            with tarfile.open(self.path, "r|*") as archive:
                for member in archive:
                    name = normal_name(member.name)
                    # A file may be appended again to replace an earlier one, so only its last place counts.
                    if name in left and member.offset_data == self._places[name][0]:
                        file = archive.extractfile(member)
                        left.discard(name)
                        yield name, file.read() if file else b""
                    if not left:
                        return
        except DAMAGE as error:
            raise self._damaged(error) from error


def _is_compressed(path: Path, key: str) -> bool:
    """Return whether a file is compressed by gzip, bzip2 or xz, by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); fix it, or change {key}") from error


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise `ReadError` unless a block of zeros ends the archive: tarfile takes a damaged header for the end."""
    if archive.fileobj is None:
        return
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"damaged or cut off at byte {archive.offset}")
