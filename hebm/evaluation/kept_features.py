"""Store features of images in files, so that evaluations with the same images decode each batch once.

    <folder>/<kind>-<extractor>-<key>/  <first row>-<rows>.safetensors   a batch: features, which images are finite, and
                                                                         diagnostics of draws
                                        moments-<N>-<rows>.safetensors   mean and covariance of N images' features

The metadata "about" of a file lists what it depends on, and the key is the hash of this list.

Each batch is written as soon as it is computed. An interrupted evaluation therefore continues after its last batch, and
one with more images continues after the full batches of another. Every process writes its batches itself. Two runs that
measure at the same time may both compute a batch; they write the same file. If the folder would exceed its limit, the
least recently used files are removed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import attrs
from torch import Tensor

from hebm.evaluation.frechet import Moments
from hebm.store.cached_tensors import read_cached, write_cached

LAYOUT = 1
"""Version of the file layout. Raise it if the same images would get other features under the same key."""

_FEATURES, _FINITE, _DIAGNOSTICS = "features.", "finite", "diagnostics."
_ABOUT = "about"

logger = logging.getLogger(__name__)


class FeatureBatch(NamedTuple):
    """The stored data of a batch of B images.

    Arguments:
        features: the extractor's output, float32 `(B, F)` by name.
        finite: whether each image was finite before it became 8-bit pixels, `(B,)`.
        diagnostics: diagnostics of each draw by name, float64 `(B,)`.
    """

    features: Mapping[str, Tensor]
    finite: Tensor
    diagnostics: Mapping[str, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """Return all fields as one table of tensors."""
        features = {_FEATURES + name: values for name, values in self.features.items()}
        return {**features, _FINITE: self.finite, **{_DIAGNOSTICS + k: v for k, v in self.diagnostics.items()}}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> FeatureBatch:
        """Return the batch from the table that `tensors` returned."""
        return cls(_below(_FEATURES, tensors), tensors[_FINITE], _below(_DIAGNOSTICS, tensors))


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}


@attrs.frozen
class KeptFeatures:
    """The stored features of one kind of images and one extractor.

    Arguments:
        store: the store of all features.
        name: name of their folder.
        about: what the features depend on, as JSON.
    """

    store: FeatureStore
    name: str
    about: str

    def read(self, start: int, rows: int) -> FeatureBatch | None:
        """Return a batch by its first row and its size; None if it is missing or damaged."""
        name = f"{start:08d}-{rows}"
        found = self._read(name)
        if found is None:
            return None
        sizes = {len(values) if values.ndim else 0 for values in found.values()}
        if _FINITE not in found or not _below(_FEATURES, found) or sizes != {rows}:
            self._warn(name, f"it does not hold {rows} rows of features")
            return None
        return FeatureBatch.of(found)

    def write(self, start: int, rows: int, batch: FeatureBatch) -> None:
        """Write a batch, unless it exceeds the limit."""
        self._write(f"{start:08d}-{rows}", batch.tensors())

    def read_moments(self, n: int, rows: int) -> Moments | None:
        """Return the moments of the first n features, computed in batches of `rows`; None if they are not stored."""
        name = f"moments-{n}-{rows}"
        found = self._read(name)
        if found is None:
            return None
        mean, cov = found.get("mean"), found.get("cov")
        if mean is None or cov is None or mean.ndim != 1 or cov.shape != (len(mean), len(mean)):
            self._warn(name, "it does not hold a mean and a covariance")
            return None
        return Moments(mean, cov)

    def write_moments(self, n: int, rows: int, moments: Moments) -> None:
        """Write the moments of the first n features, unless they exceed the limit."""
        self._write(f"moments-{n}-{rows}", moments._asdict())

    def _read(self, name: str) -> dict[str, Tensor] | None:
        path = self._path(name)
        found = read_cached(path)
        if found is None:
            return None
        tensors, notes = found
        if notes != {_ABOUT: self.about}:
            self._warn(name, "it is about other images")
            return None
        with suppress(OSError):  # a read-only folder cannot record when a file was used
            os.utime(path)
        return tensors

    def _warn(self, name: str, why: str) -> None:
        logger.warning("%s is damaged and is computed again: %s", self._path(name), why)

    def _write(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        if self.store.has_room(sum(values.nbytes for values in tensors.values())):
            write_cached(self._path(name), tensors, {_ABOUT: self.about})

    def _path(self, name: str) -> Path:
        return self.store.folder / self.name / f"{name}.safetensors"


class FeatureStore:
    """The folder of stored features.

    Arguments:
        folder: the folder, which all runs share.
        limit: its largest size in GiB.
    """

    def __init__(self, folder: Path, limit: float = math.inf) -> None:
        self.folder, self._limit = folder, limit * 2**30
        self._taken: int | None = None

    def of(self, name: str, identity: Mapping[str, Any]) -> KeptFeatures:
        """Return the stored features of a kind of images and an extractor.

        Arguments:
            name: the readable first part of the folder's name.
            identity: everything that the features depend on besides the first row and the size of a batch, in JSON
                types.
        """
        about = json.dumps({"layout": LAYOUT, **identity}, indent=1, sort_keys=True)
        return KeptFeatures(self, f"{name}-{hashlib.sha256(about.encode()).hexdigest()[:20]}", about)

    def has_room(self, size: int) -> bool:
        """Reserve bytes of the limit, removing older files if needed. Return whether they fit."""
        if self._taken is None or self._taken + size > self._limit:
            self._taken = self._shrunk(self._limit - size)
        if self._taken + size > self._limit:
            return False
        self._taken += size
        return True

    def _shrunk(self, limit: float) -> int:
        """Remove the least recently used files until the rest take at most `limit` bytes. Return the size of the rest.

        A negative limit removes nothing.
        """
        found = sorted(self._files())
        taken = sum(size for _, size, _ in found)
        for _, size, path in found:
            if taken <= limit or limit < 0:
                break
            with suppress(OSError):
                path.unlink()
                taken -= size
        return taken

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Yield each file's time of last use, size in bytes and path."""
        for path in self.folder.rglob("*"):
            with suppress(OSError):  # another process has just removed it
                if path.is_file():
                    about = path.stat()
                    yield about.st_mtime, about.st_size, path
