"""Read the metadata of installed distributions.

A distribution that cannot be read is listed with the cause and does not affect others: its entry points are ignored, as
if it were not installed. `shield` protects against errors in the code of plugins.
"""

from __future__ import annotations

import functools
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs

from hebm.errors import HebmError, PluginError

_PREFIX = "hebm_"
_POINTS = "entry_points.txt"
_READ = (_POINTS, "METADATA", "PKG-INFO")
_UNNAMED = "a distribution without metadata"  # remains of a failed uninstall
_LARGEST = 4 * 2**20
"""The largest metadata file that is read, in bytes."""


@attrs.frozen
class Distribution:
    """An installed distribution that declares entry points for hebm.

    Arguments:
        name, version: name and version in its metadata.
        points: its entry points in groups that start with `hebm_`.
    """

    name: str
    version: str
    points: tuple[metadata.EntryPoint, ...]


@attrs.frozen
class Unreadable:
    """An installed distribution whose metadata cannot be read.

    Arguments:
        distribution: its name, from the name of the metadata folder.
        cause: the cause.
        folder: its metadata folder; None for one in an archive.
    """

    distribution: str
    cause: str
    folder: Path | None

    def __str__(self) -> str:
        return f"{self.distribution} ({self.cause})"


@attrs.frozen
class Found:
    """The installed distributions that declare entry points for hebm, and the unreadable ones."""

    declaring: tuple[Distribution, ...]
    unreadable: tuple[Unreadable, ...]


@functools.cache
def installed_distributions() -> Found:
    """Read the metadata of all installed distributions once. If a name is on the path twice, the first one counts."""
    readable: dict[str, Distribution | None] = {}
    unreadable: dict[str, Unreadable] = {}
    for one in metadata.Distribution.discover():
        name = _called(one)
        if normalised(name) in readable:
            continue
        try:
            readable[normalised(name)] = _read(one)
        except PluginError as error:
            unreadable.setdefault(normalised(name), Unreadable(name, str(error), _folder(one)))
    return Found(tuple(filter(None, readable.values())), tuple(unreadable[name] for name in sorted(unreadable)))


def hide_unreadable() -> None:
    """Hide unreadable distributions from `importlib.metadata` in this process.

    Libraries such as torch, triton and networkx list all entry points when they are imported, and would fail. Child
    processes import torch before hebm, so torch's search for device plugins is turned off for them.
    """
    hidden = {one.folder for one in installed_distributions().unreadable}

    def readable(**context: Any) -> Iterator[metadata.Distribution]:
        return (one for one in metadata.Distribution.discover(**context) if _folder(one) not in hidden)

    if hidden:
        metadata.distributions = readable
        os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")


def unreadable_note() -> str:
    """Return a list of unreadable distributions to append to a message about an unknown name; "" if there are none."""
    found = ", ".join(map(str, installed_distributions().unreadable))
    return f"; distributions that cannot be read: {found}" if found else ""


def normalised(distribution: str) -> str:
    """Return the name of a distribution in its standard spelling."""
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


@contextmanager
def shield(what: str) -> Iterator[None]:
    """Turn any error that a plugin raises inside the context into a `PluginError`, except Ctrl-C.

    Arguments:
        what: the start of the message, such as "it cannot be imported".
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except HebmError as error:
        raise PluginError(f"{what}: {error}") from error
    except BaseException as error:  # includes SystemExit and a plugin's own subclasses
        raise PluginError(f"{what}: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # its __str__ may be broken
        text = ""
    told = f"{type(error).__name__}: {text}".removesuffix(": ")
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{told}; install {error.name.partition('.')[0]!r} if it is a dependency"
    return told


# ---------------------------------------------------------------- one distribution


def _read(one: metadata.Distribution) -> Distribution | None:
    """Return the entry points of a distribution; None if it has none for hebm. Raises `PluginError` if unreadable."""
    folder = _folder(one)
    if folder is not None:
        _require_readable(folder)
    points = tuple(point for point in _points(one) if point.group.startswith(_PREFIX))
    return Distribution(*_label(one), points) if points else None


def _points(one: metadata.Distribution) -> tuple[metadata.EntryPoint, ...]:
    try:
        return tuple(one.entry_points)
    except UnicodeDecodeError as error:
        raise PluginError(_not_utf8(_POINTS, error)) from error
    except Exception as error:
        raise PluginError(f"{_POINTS} is malformed{_malformed_line(one)}; expected NAME = MODULE:OBJECT") from error


def _malformed_line(one: metadata.Distribution) -> str:
    """Return number and text of the first line that is not a section, a comment or an assignment, or ""."""
    lines = enumerate((one.read_text(_POINTS) or "").splitlines(), 1)
    for number, line in ((number, line.strip()) for number, line in lines):
        if line and "=" not in line and line[0] not in "#[":
            return f", line {number}: {line[:80]!r}"
    return ""


def _label(one: metadata.Distribution) -> tuple[str, str]:
    """Return name and version. Raises `PluginError` if the metadata exists but cannot be read."""
    try:
        return one.name or _UNNAMED, one.version or ""
    except UnicodeDecodeError as error:
        raise PluginError(_not_utf8("METADATA", error)) from error
    except (KeyError, TypeError, AttributeError, FileNotFoundError, metadata.PackageNotFoundError):  # no metadata
        return _UNNAMED, ""


def _not_utf8(file: str, error: UnicodeDecodeError) -> str:
    return f"{file} is not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start}"


def _folder(one: metadata.Distribution) -> Path | None:
    """Return the metadata folder; None for a distribution in an archive or without one."""
    path = getattr(one, "_path", None)  # it has no public name
    return path if isinstance(path, Path) else None


def _called(one: metadata.Distribution) -> str:
    """Return the name of a distribution from its metadata folder, without reading a file."""
    folder = _folder(one)
    if folder is None:
        try:
            return _label(one)[0]
        except PluginError:
            return _UNNAMED
    named = folder.parent if folder.name == "EGG-INFO" else folder
    return named.stem.partition("-")[0] or named.name


def _require_readable(folder: Path) -> None:
    """Raise `PluginError` if a metadata file is not a regular file; reading a pipe, for example, would never end."""
    if folder.suffix == ".dist-info" and not folder.is_dir():
        raise PluginError(f"{folder.name} is not a folder")
    for name in _READ:
        try:
            found = os.stat(folder / name)
        except (FileNotFoundError, NotADirectoryError):  # optional, or the distribution is a single file
            continue
        except OSError as error:
            raise PluginError(f"{name} cannot be read ({error.strerror})") from error
        if not stat.S_ISREG(found.st_mode):
            raise PluginError(f"{name} is not a regular file")
        if found.st_size > _LARGEST:
            raise PluginError(f"{name} has {found.st_size:,} bytes; at most {_LARGEST:,} are read")
        if not os.access(folder / name, os.R_OK):
            raise PluginError(f"{name} cannot be read (Permission denied)")
