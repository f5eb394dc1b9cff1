"""Find image files in a folder, or in an archive that is read in place (`hebm.data.archives`).

A file is an image if its name has the ending of one, or if its first bytes are those of one. `Files.left_out` lists
files that look like images and are not used.
"""

from __future__ import annotations

import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from typing_extensions import override

from hebm.data.decode import CorruptImage
from hebm.data.image_names import HEAD, is_hidden, is_named_image, is_resource_fork, starts_like_image
from hebm.errors import DataError

LARGEST = 1 << 30
"""Largest size of an encoded image, in bytes."""
DAMAGE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    MemoryError,
    zlib.error,
    lzma.LZMAError,
)
DAMAGE = (*DAMAGE, tarfile.TarError, zipfile.BadZipFile)
"""Exceptions from reading a damaged file or archive."""
_DAMAGE_OF_ONE: tuple[type[Exception], ...] = (
    PermissionError,
    FileNotFoundError,
    IsADirectoryError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)
"""Exceptions that concern one damaged or denied file, not the disk, the memory or the whole archive."""


class Files(ABC):
    """Image files by name (with / between folders), sorted.

    Arguments:
        path: the folder or archive.
        key: name of the option that messages tell the user to change.

    Attributes:
        names: names of the images.
        left_out: names of files that look like images and are not used, by reason.
    """

    seekable = True

    def __init__(self, path: Path, key: str = "data.root") -> None:
        self.path, self.key = path, key
        self.left_out: dict[str, list[str]] = {}
        try:
            self.names = sorted(set(filter(self._is_image, self._list())))
        except DAMAGE as error:
            raise self._damaged(error) from error

    def read(self, name: str) -> bytes:
        """Read the bytes of one file.

        Raises `CorruptImage` if this file is damaged, missing or denied, and `DataError` if reading fails otherwise or
        the file is too large for an image.
        """
        try:
            return self._read(name)
        except _DAMAGE_OF_ONE as error:
            raise CorruptImage(*self._complaint(error, name)) from error
        except DAMAGE as error:
            raise self._damaged(error, name) from error

    def stream(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (name, bytes) of the wanted files, in the fastest order."""
        for name in sorted(wanted):
            yield name, self.read(name)

    def contents(self, wanted: Collection[str]) -> Iterator[tuple[str, bytes | CorruptImage]]:
        """Yield files as `stream` does, but with the error of a damaged file in place of its bytes.

        In a compressed tar archive, a damaged file raises `DataError`, because later files cannot be read.
        """
        if not self.seekable:
            yield from self.stream(wanted)
            return
        for name in sorted(wanted):
            try:
                data: bytes | CorruptImage = self.read(name)
            except CorruptImage as error:
                data = error
            yield name, data

    def stamps(self, names: Sequence[str]) -> list[tuple[int, int, int]]:
        """Return the size and times of the file that holds each image, which change if its bytes change.

        The times are those of the last change of content and of any attribute, in nanoseconds. Raises `DataError` for a
        file that is gone.
        """
        found = dict[str, tuple[int, int, int]]()
        for path in (holders := [self._holder(name) for name in names]):
            if path not in found:
                try:
                    about = os.stat(path)
                except OSError as error:
                    raise self._damaged(error) from error
                found[path] = (about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        return [found[path] for path in holders]

    def describe(self, name: str) -> str:
        """Return the whole path of a file, for messages."""
        return f"{self.path}/{name}"

    def leave_out(self, name: str, reason: str) -> None:
        """Record a file that is not used."""
        self.left_out.setdefault(reason, []).append(name)

    def require_size(self, name: str, size: int) -> None:
        """Raise `DataError` if a file is too large for an image. Called before it is read."""
        if self.too_large(size):
            raise DataError(
                f"{self.describe(name)}: holds {size:,} bytes, more than an image file can have here "
                f"({LARGEST:,}); remove it, or save the image in a smaller format"
            )

    @staticmethod
    def too_large(size: int) -> bool:
        """Return whether this size, in bytes, is too large for an image."""
        return size > LARGEST

    @abstractmethod
    def has(self, name: str) -> bool:
        """Return whether a file of this name exists, an image or not."""

    def _holder(self, name: str) -> str:
        """Return the path of the file that holds an image's bytes: the archive itself, unless overridden."""
        return str(self.path)

    @abstractmethod
    def _list(self) -> Iterator[str]:
        """Yield the names of all regular files."""

    @abstractmethod
    def _read(self, name: str) -> bytes: ...

    @abstractmethod
    def _head(self, name: str) -> bytes:
        """Return the first `HEAD` bytes of a file."""

    def _is_image(self, name: str) -> bool:
        """Return whether a file is an image to use, and record hidden ones as left out."""
        if is_resource_fork(name):
            return False
        looks = is_named_image(name) or starts_like_image(self._head(name))
        if looks and is_hidden(name):
            self.leave_out(name, "hidden")
        return looks and not is_hidden(name)

    def _damaged(self, error: Exception, name: str | None = None) -> DataError:
        return DataError("; ".join(self._complaint(error, name)))

    def _complaint(self, error: Exception, name: str | None) -> tuple[str, str]:
        """Return the error with its place, and advice."""
        where = self.path if name is None else self.describe(name)
        cause = "out of memory" if isinstance(error, MemoryError) else error
        return f"{where}: cannot be read ({cause})", f"fix or replace it, or change {self.key}"


class Folder(Files):
    """A folder and its sub-folders. Symbolic links are followed, except to a folder that the link lies in.

    Pipes, devices and sockets are never opened.
    """

    def has(self, name: str) -> bool:
        """Return whether the folder has a file of this name."""
        return (self.path / name).is_file()

    def _list(self) -> Iterator[str]:
        yield from self._below("", ())

    def _below(self, inner: str, around: tuple[tuple[int, int], ...]) -> Iterator[str]:
        """Yield the regular files below a folder.

        Arguments:
            inner: the folder's name within `path`, with a slash at the end, or "".
            around: device and inode of each parent folder.
        """
        found = (self.path / inner).stat()
        around = (*around, (found.st_dev, found.st_ino))
        with os.scandir(self.path / inner) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
        for entry in listed:
            name = f"{inner}{entry.name}"
            try:
                found = entry.stat()
            except OSError:
                self.leave_out(name, "broken links")
                continue
            if stat.S_ISDIR(found.st_mode):
                if (found.st_dev, found.st_ino) in around:
                    self.leave_out(name, "links to a folder that contains them")
                else:
                    yield from self._below(f"{name}/", around)
            elif stat.S_ISREG(found.st_mode):
                yield name
            else:
                self.leave_out(name, "pipes, devices and sockets")

    @override
    def _holder(self, name: str) -> str:
        return f"{self.path}/{name}"

    def _read(self, name: str) -> bytes:
        path = self.path / name
        self.require_size(name, path.stat().st_size)
        return path.read_bytes()

    def _head(self, name: str) -> bytes:
        with (self.path / name).open("rb") as file:
            return file.read(HEAD)


def left_out_lines(files: Files) -> list[str]:
    """Return one line per reason for leaving files out, with the number of files and an example."""
    return said_of_left_out({reason: [*map(files.describe, names)] for reason, names in files.left_out.items()})


def said_of_left_out(left_out: Mapping[str, Sequence[str]]) -> list[str]:
    """Return one line per reason, with the number of files and an example.

    Arguments:
        left_out: paths of files by the reason for leaving them out.
    """
    return [
        f"{'1 file that looks like an image is' if len(names) == 1 else f'{len(names):,} files are'} left out "
        f"({reason}), such as {names[0]}"
        for reason, names in left_out.items()
    ]
