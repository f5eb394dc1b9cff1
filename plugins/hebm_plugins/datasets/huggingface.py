"""The data set `huggingface`: a data set of the library `datasets`, from local files or by its name on the Hub."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typing_extensions import override

from hebm.config.recipes import option, recipe
from hebm.errors import ConfigError, DataError, DataWarning
from hebm_plugins.datasets.csv_labels import Labels
from hebm_plugins.datasets.encoded_images import EncodedImages
from hebm_plugins.datasets.file_decoders import Found
from hebm_plugins.datasets.hub_columns import Asked, choose, labels_of
from hebm_plugins.datasets.hub_rows import ImageRows
from hebm_plugins.datasets.splits import by_hash, hold_out

_SAVED = ("dataset_dict.json", "state.json")
"""Files that `save_to_disk` writes: for a data set with splits, and for one without."""


@recipe
class HuggingFace(EncodedImages):
    """Images of a data set of the library `datasets` (`pip install 'hebm[hf]'`).

    `path` is a folder made by `save_to_disk`, a .parquet file, or a folder of .parquet files. `name` is a data set on
    the Hugging Face Hub, which is downloaded. Splits and columns that no key names are found, and a note says which.
    The library converts .parquet files and downloads once, into its own cache (the environment variable `HF_HOME`).
    Images are in a random order that depends only on their number.
    """

    path: str | None = option(
        None, doc="a folder made by save_to_disk, a .parquet file, or a folder of .parquet files", path=True
    )
    name: str | None = option(None, doc="name on the Hub, in place of path, such as ylecun/mnist; needs a network")
    subset: str | None = option(None, doc="configuration of the data set on the Hub, if it has several")
    train: str | None = option(None, doc="split of the training images; left out: train, or the only split")
    test: str | None = option(
        None, doc="split of the test images; left out: test or validation, or else a part of train is held out"
    )
    image: str | None = option(None, doc="column of the images; left out: the only one that holds images")
    label: str | None = option(
        None,
        doc='column of the classes, "" for none; left out: the only column of ClassLabels, or else the column label, '
        "labels or class",
    )

    def __attrs_post_init__(self) -> None:
        """Raise `ConfigError` unless exactly one of `path` and `name` is set."""
        if (self.path is None) == (self.name is None):
            raise ConfigError("data: set either data.path to local files or data.name to a data set on the Hub")
        if self.subset is not None and self.name is None:
            raise ConfigError("data.subset belongs to data.name; leave it out for local files")

    @property
    def where(self) -> str:
        """Return the path or the name."""
        return self.path or str(self.name)

    @override
    def found(self, split: str) -> Found:
        """List the images of a split. A `DataWarning` states the splits and columns that no key names."""
        with _without_bars():
            splits = self._opened()
        chosen = choose(splits, self.where, Asked(self.train, self.test, self.image, self.label))
        if chosen.found:
            warnings.warn(f"{self.where}: {', '.join(chosen.found)}", DataWarning, stacklevel=2)
        used = {name: splits[name] for name in (chosen.train, chosen.test) if name is not None}
        mine = chosen.test if split == "test" and chosen.test is not None else chosen.train
        labels = labels_of(used, chosen.label, self.where)[mine] if chosen.label is not None else Labels()
        key = "data.path" if self.path else "data.name"
        files = ImageRows(used[mine], chosen.image, Path(self.where) / mine / chosen.image, key)
        whole = Found(files, tuple(files.names), labels)
        if chosen.test is None:
            return whole.keep(hold_out(files.names, self.holdout, split))
        return whole.keep(by_hash(files.names))

    @override
    def nothing(self, split: str) -> DataError:
        """Point to `holdout` or to the options of the splits."""
        if split == "test" and self.holdout == 0:
            return DataError(f"{self.where}: no test images, and data.holdout is 0; raise it, or set data.test")
        return DataError(f"{self.where}: no images for split {split!r}; choose others with data.train and data.test")

    def _opened(self) -> Mapping[str, Any]:
        """Return a `datasets.Dataset` for each split."""
        try:
            import datasets
        except ImportError:
            fix = "install it with  pip install 'hebm[hf]'"
            raise ConfigError(f'data.type = "huggingface" needs the package datasets; {fix}') from None
        if self.path is not None and not Path(self.path).exists():
            raise DataError(f"{Path(self.path).absolute()}: no such file or folder; change data.path")
        try:
            opened = _local(Path(self.path)) if self.path else datasets.load_dataset(self.name, self.subset)
        except Exception as error:  # the library and its file systems raise errors of many kinds
            cause = f"{type(error).__name__}: {error}".splitlines()[0]
            kinds = "a folder made by save_to_disk, a .parquet file, or a folder of .parquet files"
            fix = f"data.path must be {kinds}" if self.path else "check data.name, data.subset and the network"
            raise DataError(f"{self.where}: cannot be opened as a data set ({cause}); {fix}") from error
        return opened if isinstance(opened, Mapping) else {"train": opened}


def _local(path: Path) -> Any:
    """Return the data set in local files, one or a mapping of splits."""
    import datasets

    if path.is_file():
        return datasets.load_dataset("parquet", data_files=glob.escape(str(path)))
    if any((path / name).is_file() for name in _SAVED):
        return datasets.load_from_disk(str(path))
    found = sorted(str(file) for file in path.rglob("*.parquet"))
    if not found:
        raise FileNotFoundError(f"{path} has no .parquet files and was not made by save_to_disk")
    return datasets.load_dataset(str(path))


@contextmanager
def _without_bars() -> Iterator[None]:
    """Hide the library's progress bars inside the context."""
    try:
        from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    except ImportError:
        yield
        return
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()
