"""Where image files are: a folder, a .zip or a tar archive, all read in place and never unpacked to disk."""

from __future__ import annotations

import lzma
import os
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from pathlib import Path

from hebm.errors import DataError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
_DAMAGE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    zlib.error,
    lzma.LZMAError,
)
_DAMAGE = (*_DAMAGE, tarfile.TarError, zipfile.BadZipFile)


def is_archive(path: Path) -> bool:
    """Whether the name ends like an archive's."""
    return path.name.lower().endswith(ARCHIVES)


def is_image(name: str) -> bool:
    """Whether the name ends like an image's and no part of it is hidden or a Mac's resource fork."""
    parts = name.split("/")
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and name.lower().endswith(IMAGES)


class Files(ABC):
    """Image files by name (with / between folders), sorted.

    Arguments:
        path: the folder or archive.
    """

    seekable = True

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.names = sorted(set(filter(is_image, self._list())))
        except _DAMAGE as error:
            raise self._damaged(error) from error

    def read(self, name: str) -> bytes:
        """Read the bytes of one file. Raises `DataError` if that fails."""
        try:
            return self._read(name)
        except _DAMAGE as error:
            raise self._damaged(error, name) from error

    def stream(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (name, bytes) of the wanted files, in whatever order is quickest."""
        for name in sorted(wanted):
            yield name, self.read(name)

    def describe(self, name: str) -> str:
        """Return the whole path of a file, for messages."""
        return f"{self.path}/{name}"

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is a file of this name, an image or not."""

    @abstractmethod
    def _list(self) -> Iterator[str]: ...

    @abstractmethod
    def _read(self, name: str) -> bytes: ...

    def _damaged(self, error: Exception, name: str | None = None) -> DataError:
        where = self.path if name is None else self.describe(name)
        return DataError(f"{where}: cannot be read ({error}); fix or replace it, or point data.root elsewhere")


class Folder(Files):
    """A folder and its sub-folders; symbolic links to folders are not followed."""

    def has(self, name: str) -> bool:
        """Return whether the folder has a file of this name."""
        return (self.path / name).is_file()

    def _list(self) -> Iterator[str]:
        for folder, _, files in os.walk(self.path):
            inner = Path(folder).relative_to(self.path)
            yield from ((inner / file).as_posix() for file in files)

    def _read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()


class Zip(Files):
    """A .zip archive. Every process opens it for itself: a file position must not be shared."""

    def __init__(self, path: Path) -> None:
        self._archives: dict[int, zipfile.ZipFile] = {}
        super().__init__(path)

    def __getstate__(self) -> dict[str, object]:
        """Leave out open files, for workers that are not forked."""
        return {**self.__dict__, "_archives": {}}

    def has(self, name: str) -> bool:
        """Return whether the archive lists a file of this name."""
        return name in self._archive().NameToInfo

    def _list(self) -> Iterator[str]:
        yield from (info.filename for info in self._archive().infolist() if not info.is_dir())

    def _read(self, name: str) -> bytes:
        return self._archive().read(name)

    def _archive(self) -> zipfile.ZipFile:
        pid = os.getpid()
        if pid not in self._archives:
            self._archives[pid] = zipfile.ZipFile(self.path)
        return self._archives[pid]


class Tar(Files):
    """A tar archive. Uncompressed, its files are read at their offsets; compressed, only in one pass."""

    def __init__(self, path: Path) -> None:
        self.seekable = path.name.lower().endswith(".tar")
        self._places: dict[str, tuple[int, int]] = {}
        super().__init__(path)

    def has(self, name: str) -> bool:
        """Ask the list made on opening."""
        return name in self._places

    def _list(self) -> Iterator[str]:
        with tarfile.open(self.path, "r:*") as archive:
            for member in archive:
                if member.isreg():
                    self._places[member.name.removeprefix("./")] = (member.offset_data, member.size)
            _check_end(archive)
        yield from self._places

    def _read(self, name: str) -> bytes:
        if not self.seekable:
            return dict(self.stream([name]))[name]
        offset, size = self._places[name]
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)

    def stream(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield files in the archive's order, in one pass."""
        left = set(wanted)
        try:
            with tarfile.open(self.path, "r|*") as archive:
                for member in archive:
                    name = member.name.removeprefix("./")
                    # A file that was appended again replaces the earlier one: only the last place counts.
                    if name in left and member.offset_data == self._places[name][0]:
                        file = archive.extractfile(member)
                        left.discard(name)
                        yield name, file.read() if file else b""
                    if not left:
                        return
        except _DAMAGE as error:
            raise self._damaged(error) from error


def _check_end(archive: tarfile.TarFile) -> None:
    """Check for a block of zeros after the last member: tarfile takes a damaged or missing header for the end."""
    if archive.fileobj is None:
        return
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError(f"damaged or cut off at byte {archive.offset}")


def open_files(path: Path) -> Files:
    """Open the image files in a folder or archive. Raises `DataError` if it is neither."""
    if path.is_dir():
        return Folder(path)
    if not path.is_file():
        raise DataError(f"{path}: no such folder or archive; set data.root to a folder, .zip or .tar(.gz) of images")
    if not is_archive(path):
        raise DataError(f"{path}: data.root must be a folder or an archive ({', '.join(ARCHIVES)})")
    return Zip(path) if path.name.lower().endswith(".zip") else Tar(path)
