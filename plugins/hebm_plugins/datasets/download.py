"""Torchvision's data sets: found where they are, else downloaded once, else an error that says where it looked."""

from __future__ import annotations

import contextlib
import tarfile
import zipfile
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hebm.config.recipes import option, recipe
from hebm.data.dataset_recipe import ImageData
from hebm.errors import DataError

# What torchvision raises on missing, damaged or unreachable files. URLError is an OSError; gdown may be missing.
_FAILURES: tuple[type[Exception], ...] = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    EOFError,
    AssertionError,
    ImportError,
)
_FAILURES = (*_FAILURES, tarfile.TarError, zipfile.BadZipFile)


@recipe
class Downloadable(ImageData):
    """A data set that torchvision reads. Implement `open`, and `source` with it."""

    root: str = option("data", doc="the folder that torchvision keeps the data set in, or downloads it to", path=True)
    download: bool = option(True, doc="download the data set if it is missing")

    @abstractmethod
    def open(self, split: str, download: bool) -> Any:
        """Open torchvision's object for a split; raises what torchvision raises."""

    def found(self, split: str) -> Any:
        """Return torchvision's object: files that exist are not touched, and only one process at a time downloads."""
        try:
            return self.open(split, download=False)
        except _FAILURES as error:
            if not self.download:
                raise self._missing(split, "data.download is false", error) from error
        try:
            with _alone(Path(self.root)):
                return self.open(split, download=True)
        except _FAILURES as error:
            raise self._missing(split, "the download failed or the files are damaged", error) from error

    def _missing(self, split: str, why: str, error: Exception) -> DataError:
        where = Path(self.root).absolute()
        fix = "set data.root to the folder that has it, or data.download = true on a machine with a network connection"
        cause = str(error).strip().replace("\n", " ") or type(error).__name__
        return DataError(
            f"data set {type(self).__name__}, split {split!r}: not usable in {where}; {why} ({cause}); {fix}. "
            "If a file there is damaged, delete it first"
        )


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold a lock in `root`: several processes of a run start at once, and would write one file together."""
    root.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows has no such lock; there the first run should be of one process
        yield
        return
    with (root / ".download.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
