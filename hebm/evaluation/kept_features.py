"""Features of images, kept in files: a batch is decoded once for all evaluations that would see the same images.

    <folder>/<kind>-<extractor>-<key>/  <first row>-<rows>.safetensors   a batch: features, which images are finite, and
                                                                         diagnostics of draws
                                        moments-<N>-<rows>.safetensors   mean and covariance of N images' features

The metadata "about" of a file says what it depends on, and the key is the hash of that.

A batch is written as soon as it is there. So an evaluation that was interrupted goes on after its last batch, and one
with more images goes on after the full batches of another. Every process writes batches of its own. Two runs that
measure at the same time may both compute a batch; they write the same file. Where the folder would grow beyond its
limit, the files that were not used for the longest time are removed.
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
"""Number of the files' layout. Raise it if the same images would have other features under the same key."""

_FEATURES, _FINITE, _DIAGNOSTICS = "features.", "finite", "diagnostics."
_ABOUT = "about"

logger = logging.getLogger(__name__)


class FeatureBatch(NamedTuple):
    """What is kept of a batch of B images.

    Arguments:
        features: float32 `(B, F)` by name, as an extractor returned them.
        finite: `(B,)`, whether each image was finite before it became 8-bit pixels.
        diagnostics: of each draw by name, float64 `(B,)`.
    """

    features: Mapping[str, Tensor]
    finite: Tensor
    diagnostics: Mapping[str, Tensor]

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it as one table of tensors."""
        features = {_FEATURES + name: values for name, values in self.features.items()}
        return {**features, _FINITE: self.finite, **{_DIAGNOSTICS + k: v for k, v in self.diagnostics.items()}}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> FeatureBatch:
        """Return the batch that such a table has."""
        return cls(_below(_FEATURES, tensors), tensors[_FINITE], _below(_DIAGNOSTICS, tensors))


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}


@attrs.frozen
class KeptFeatures:
    """The kept features of one kind of images and one extractor.

    Arguments:
        store: has them.
        name: of their folder.
        about: what they depend on, as JSON.
    """

    store: FeatureStore
    name: str
    about: str

    def read(self, start: int, rows: int) -> FeatureBatch | None:
        """Return a batch by its first row and its size; None if it is not kept, or damaged."""
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
        """Write a batch, if the limit allows it."""
        self._write(f"{start:08d}-{rows}", batch.tensors())

    def read_moments(self, n: int, rows: int) -> Moments | None:
        """Return the moments of the first n features, computed in batches of `rows`; None if they are not kept."""
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
        """Write the moments of the first n features, if the limit allows it."""
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
        with suppress(OSError):  # in a folder that is read-only, it is not known when a file was used
            os.utime(path)
        return tensors

    def _warn(self, name: str, why: str) -> None:
        logger.warning("%s is damaged and is made again: %s", self._path(name), why)

    def _write(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        if self.store.has_room(sum(values.nbytes for values in tensors.values())):
            write_cached(self._path(name), tensors, {_ABOUT: self.about})

    def _path(self, name: str) -> Path:
        return self.store.folder / self.name / f"{name}.safetensors"


class FeatureStore:
    """The folder of kept features.

    Arguments:
        folder: shared by all runs.
        limit: GiB that it may take.
    """

    def __init__(self, folder: Path, limit: float = math.inf) -> None:
        self.folder, self._limit = folder, limit * 2**30
        self._taken: int | None = None

    def of(self, name: str, identity: Mapping[str, Any]) -> KeptFeatures:
        """Return the kept features of a kind of images and an extractor.

        Arguments:
            name: the first part of their folder's name, for people.
            identity: everything that decides their features besides the first row and the size of a batch, in JSON's
                types.
        """
        about = json.dumps({"layout": LAYOUT, **identity}, indent=1, sort_keys=True)
        return KeptFeatures(self, f"{name}-{hashlib.sha256(about.encode()).hexdigest()[:20]}", about)

    def has_room(self, size: int) -> bool:
        """Take this many bytes of the limit, and return whether that is possible; older files make room."""
        if self._taken is None or self._taken + size > self._limit:
            self._taken = self._shrunk(self._limit - size)
        if self._taken + size > self._limit:
            return False
        self._taken += size
        return True

    def _shrunk(self, limit: float) -> int:
        """Remove the files that were not used for the longest time until the others take no more than `limit`.

        Returns the bytes that these take. A negative limit removes nothing.
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
        """Yield when each file was used, its size in bytes, and its path."""
        for path in self.folder.rglob("*"):
            with suppress(OSError):  # another process has just removed it
                if path.is_file():
                    about = path.stat()
                    yield about.st_mtime, about.st_size, path
