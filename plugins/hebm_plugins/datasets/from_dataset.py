"""One's own images as a torch data set, passed in Python."""

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
    """What was read of the data sets.

    Arguments:
        items: "train", and "test" where it was given.
        stated: the range of values that was checked.
    """

    items: dict[str, Items]
    stated: Range

    def fits(self, dataset: Any, test: Any, stated: Range) -> bool:
        """Return whether these data sets were read, with this range."""
        read = {split: items.dataset for split, items in self.items.items()}
        return stated == self.stated and read.get("train") is dataset and read.get("test") is test


@recipe
class FromDataset(FromPython):
    """Images of a torch data set, passed in Python: `hebm.FromDataset(dataset, test, range=(0, 1))`.

    It takes every map-style data set, with `__len__` and `__getitem__`. An item is an image or (image, label): a PIL
    image in mode 1, L or RGB, or a tensor or NumPy array `(H, W)` or `(C, H, W)`, uint8, or floats whose `range` is
    stated. A label is an integer, which numbers a class, or a row of attributes 0 and 1. Where the data set has a list
    `classes`, as torchvision's have, it names the classes.

    Making the recipe reads every item once, for the fingerprint: about as long as an epoch of loading. Afterwards
    images are read when they are needed, by data workers if there are any. Each must be the same whenever it is read,
    so leave random transforms out: `flip` mirrors training images.

    Without `test`, a tenth of the items is held out: which ones depends on their number alone.
    """

    dataset: Any = live(doc="training images, or images with labels")
    test: Any = live(doc="test images; without them a tenth of the items is held out")
    scan: Any = live(doc="what was read of the data sets; hebm fills it in")

    def passed(self) -> Passed:
        """Return images, read from the data set when they are asked for, and labels."""
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
                    f"FromDataset: {items.name}[{changed}] is another image than when hebm.FromDataset(…) was made; "
                    "make it again, or undo the change"
                )

    def _scanned(self) -> Scan:
        """Return what was read of these data sets; read them if that has not been done yet."""
        if self.scan is None or not self.scan.fits(self.dataset, self.test, self.range):
            sets = {"train": self.dataset, "test": self.test}
            names = {"train": "dataset", "test": "test"}
            if self.dataset is None:
                raise DataError("FromDataset: no training images are given; pass their data set first")
            items = {split: items_of(one, self.range, names[split]) for split, one in sets.items() if one is not None}
            object.__setattr__(self, "scan", Scan(items, self.range))
            if not self.label_names:
                object.__setattr__(self, "label_names", _class_names(items["train"]))
        found: Scan = self.scan
        return found


def _class_names(items: Items) -> tuple[str, ...]:
    """Return the names of the classes where the data set says them: strings in its attribute `classes`."""
    names = getattr(items.dataset, "classes", ())
    known = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    return tuple(names) if known and items.labels is not None and items.labels.ndim == 1 else ()
