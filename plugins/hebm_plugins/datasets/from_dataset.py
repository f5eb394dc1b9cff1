"""The data set `from-dataset`: a torch data set, passed in Python."""

from __future__ import annotations

import hashlib
from typing import Any

import attrs

from hebm.config.recipes import live, recipe
from hebm.errors import DataError
from hebm_plugins.datasets.dataset_items import Items, items_of
from hebm_plugins.datasets.from_python import FromPython, Passed, misfits
from hebm_plugins.datasets.label_arrays import complaints_about
from hebm_plugins.datasets.pixel_arrays import Range


@attrs.frozen(eq=False)
class Scan:
    """The items that were read from the data sets.

    Arguments:
        items: the items of "train", and of "test" if it is given.
        stated: the range that their values were checked against.
    """

    items: dict[str, Items]
    stated: Range

    def fits(self, dataset: Any, test: Any, stated: Range) -> bool:
        """Return whether this scan is of these data sets, with this range."""
        read = {split: items.dataset for split, items in self.items.items()}
        return stated == self.stated and read.get("train") is dataset and read.get("test") is test


@recipe
class FromDataset(FromPython):
    """Images of a torch data set, passed in Python: `hebm.FromDataset(dataset, test, range=(0, 1))`.

    Any map-style data set works, with `__len__` and `__getitem__`. An item is an image or a pair (image, label). An
    image is a PIL image in mode 1, L or RGB, or a tensor or NumPy array `(H, W)` or `(C, H, W)`: uint8, or floats with
    a `range`. A label is a class, as an integer, or a row of attributes 0 and 1. If the data set has a list `classes`,
    as those of torchvision do, it names the classes.

    Creating the recipe reads every item once for the fingerprint, which takes as long as one epoch of loading. Later,
    images are read lazily, by data workers if there are any. An item must be the same at every read, so use no random
    transforms; set `flip` to mirror training images.

    Without `test`, a tenth of the items is held out. The choice depends on their number alone.
    """

    dataset: Any = live(doc="training images, or images with labels")
    test: Any = live(doc="test images; by default a tenth of the items is held out")
    scan: Any = live(doc="the items that were read; hebm fills it in")

    def passed(self) -> Passed:
        """Return the images, which are read lazily, and the labels."""
        items: dict[str, Items] = self._scanned().items
        labels = {split: one.labels for split, one in items.items() if one.labels is not None}
        given = {"labels" if split == "train" else "test_labels": some for split, some in labels.items()}
        complaints = misfits(items) or complaints_about(given, self.label_names)
        if complaints:
            raise DataError("\n  ".join(f"FromDataset: {complaint}" for complaint in complaints))
        return Passed(items, labels)

    def content_fingerprint(self) -> str:
        """Hash all pixels and labels, as they were read when the recipe was made."""
        passed, sha = self.passed(), hashlib.sha256()
        for split, items in self._scanned().items.items():
            sha.update(repr((split, items.shape, items.fingerprint)).encode())
            labels = passed.labels.get(split)
            sha.update(b"" if labels is None else labels.numpy().tobytes())
        return sha.hexdigest()

    def require_unchanged(self) -> None:
        """Read some items again, and compare them."""
        for items in self._scanned().items.values():
            changed = items.changed()
            if changed is not None:
                raise DataError(
                    f"FromDataset: {items.name}[{changed}] has changed since hebm.FromDataset(…) was created; "
                    "create it again, or undo the change"
                )

    def _scanned(self) -> Scan:
        """Return the items of these data sets, and read them if this has not been done yet."""
        if self.scan is None or not self.scan.fits(self.dataset, self.test, self.range):
            sets = {"train": self.dataset, "test": self.test}
            names = {"train": "dataset", "test": "test"}
            if self.dataset is None:
                raise DataError("FromDataset: no training images are given; pass their data set as the first argument")
            items = {split: items_of(one, self.range, names[split]) for split, one in sets.items() if one is not None}
            object.__setattr__(self, "scan", Scan(items, self.range))
            if not self.label_names:
                object.__setattr__(self, "label_names", _class_names(items["train"]))
        found: Scan = self.scan
        return found


def _class_names(items: Items) -> tuple[str, ...]:
    """Return the names of the classes, from the attribute `classes` of the data set if it is a list of strings."""
    names = getattr(items.dataset, "classes", ())
    known = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    return tuple(names) if known and items.labels is not None and items.labels.ndim == 1 else ()
