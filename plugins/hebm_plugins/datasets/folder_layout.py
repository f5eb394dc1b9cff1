"""Read what folders of images mean: splits, classes, or neither.

    root/*.png                          neither; a part is held out as test
    root/cat/*.png, root/dog/*.png      classes
    root/train/…, root/test/…           splits, with or without classes
    root/train.tar.gz, root/test.zip    splits in archives

These rules decide, after folders that hold everything else have been left aside:

1. A folder is a split if its name, in any case and without digits and signs, is train, training, test, testing, val,
   valid, validation, eval or dev, or one of these with set, images or data before or after it (`Train`, `test_set`,
   `val2017`). A split for validation is the test split where there is no other.
2. If all folders are splits and one of them is for training, they are the splits. If none is, several folders are
   classes, one is not.
3. Images next to such folders are left out, and named, if they are at most one in twenty.
4. Everything else has two readings and is an error that shows both. `data.folders` says which one is meant.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import attrs

from hebm.data.files import Files
from hebm.errors import ConfigError, DataError
from hebm_plugins.datasets.csv_labels import Part

READINGS = ("auto", "splits", "classes", "none")
_ROLES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "eval", "evaluation", "dev"), "validation"),
}
_WORDS = "(set|images?|imgs?|data|split|folder)"
_AROUND = re.compile(f"^{_WORDS}|{_WORDS}$")
_STRAYS = 0.05


def role(name: str) -> str | None:
    """Return "train", "test" or "validation" for a name of a split; None for another name."""
    letters = re.sub(r"[\W\d_]", "", name.casefold())
    return _ROLES.get(letters) or _ROLES.get(_AROUND.sub("", letters))


@attrs.frozen
class Layout:
    """What the folders are.

    Arguments:
        parts: the images of each split, "train" and "test"; or of "" if folders are not splits.
        left_out: images that are not used, with their whole path, by the reason.
        has_classes: whether sub-folders of the parts may be classes.
    """

    parts: Mapping[str, Part]
    left_out: Mapping[str, Sequence[str]]
    has_classes: bool


def layout_of(files: Files, reading: str, labelled: bool) -> Layout:
    """Read the folders of one place.

    Arguments:
        files: all its images.
        reading: one of `READINGS`; all but "auto" overrule the rules.
        labelled: whether a table has the labels, so that folders cannot be classes.

    Raises `DataError` where there are two readings or splits do not fit, and `ConfigError` for a reading that is not
    possible.
    """
    prefix = _common_folder(files.names)
    tops = Counter(name[len(prefix) :].partition("/")[0] for name in files.names if "/" in name[len(prefix) :])
    found = _Folders(files, prefix, tops)
    if reading == "auto":
        reading = found.read(labelled)
    if reading == "splits":
        return found.splits(has_classes=not labelled)
    if reading == "classes":
        return found.classes(labelled)
    return Layout({"": Part(files, prefix, tuple(files.names))}, {}, has_classes=False)


def _common_folder(names: Sequence[str]) -> str:
    """Return the folder that holds everything, as in archives; a single folder whose name is a split's is kept."""
    prefix = ""
    while (single := _single_folder(names, prefix)) and not role(single):
        prefix += f"{single}/"
    return prefix


def _single_folder(names: Sequence[str], prefix: str) -> str | None:
    """Return the only folder in `prefix`; None if there are several, or images next to it."""
    folders = {top if rest else "" for top, _, rest in (name[len(prefix) :].partition("/") for name in names)}
    return folders.pop() if len(folders) == 1 else None


@attrs.frozen
class _Folders:
    """The folders of a place.

    Arguments:
        files: all images.
        prefix: the folder that holds everything.
        tops: how many images are in each folder there.
    """

    files: Files
    prefix: str
    tops: Mapping[str, int]

    # ------------------------------------------------------------ which reading

    def read(self, labelled: bool) -> str:
        """Return the reading that the rules give. Raises `DataError` if there are two."""
        roles = {name: role(name) for name in self.tops}
        splits = [name for name, found in roles.items() if found]
        if not splits:
            several = len(self.tops) > 1 and not labelled
            if several and len(self._strays()) > _STRAYS * len(self.files.names):
                raise self._ambiguous(self._say_classes(), 'folders = "classes"')
            return "classes" if several else "none"
        trained = "train" in roles.values()
        if trained and len(splits) == len(roles) and len(self._strays()) <= _STRAYS * len(self.files.names):
            return "splits"
        if trained:
            raise self._ambiguous(self._say_splits(splits), 'folders = "splits"', several=not labelled)
        raise DataError(
            f"{self._place()}: the folder(s) {_listed(splits)} are named like splits, but none of them is for "
            'training; name one "train", or set data.folders = "none" (images without labels) or "classes"'
        )

    def _ambiguous(self, first: str, key: str, several: bool = False) -> DataError:
        readings = [f"{first} (data.{key})"]
        if several and len(self.tops) > 1:
            readings.append(f'{self._say_classes()} (data.folders = "classes")')
        readings.append(f'{len(self.files.names):,} images without labels (data.folders = "none")')
        return DataError(f"{self._place()}: the folders can mean {', or '.join(readings)}; set the key that is meant")

    def _say_classes(self) -> str:
        return f"the classes {_listed(self.tops)}{self._strays_said()}"

    def _say_splits(self, splits: Sequence[str]) -> str:
        others = [name for name in self.tops if name not in splits]
        return (
            f"the splits {_listed(splits)}{f', leaving out {_listed(others)}' if others else ''}{self._strays_said()}"
        )

    def _strays_said(self) -> str:
        strays = self._strays()
        return f", leaving out {len(strays):,} image(s) next to them such as {strays[0]!r}" if strays else ""

    def _strays(self) -> list[str]:
        """Return the images next to the folders."""
        return [name for name in self.files.names if "/" not in name[len(self.prefix) :]]

    def _place(self) -> str:
        return self.files.describe(self.prefix).rstrip("/")

    # ------------------------------------------------------------ its parts

    def splits(self, has_classes: bool) -> Layout:
        """Return the folders as splits."""
        by_role = _by_role(self.tops, self._place())
        if "train" not in by_role:
            raise ConfigError(f'data.folders = "splits", but {self._place()} has no folder whose name is like "train"')
        parts = {
            split: whole_part(self.files, f"{self.prefix}{by_role[used]}/") for split, used in _used(by_role).items()
        }
        used = {by_role[name] for name in _used(by_role).values()}
        return Layout(parts, self._left_out(used), has_classes)

    def classes(self, labelled: bool) -> Layout:
        """Return the folders as classes."""
        if labelled or not self.tops:
            why = "data.labels names the classes" if labelled else f"{self._place()} has no folders"
            raise ConfigError(f'data.folders = "classes", but {why}; leave data.folders out')
        names = tuple(name for name in self.files.names if "/" in name[len(self.prefix) :])
        _require_no_splits_inside(names, self.prefix, self._place())
        return Layout({"": Part(self.files, self.prefix, names)}, self._left_out(set(self.tops)), has_classes=True)

    def _left_out(self, used: set[str]) -> dict[str, list[str]]:
        found = {f"next to the folders {_listed(sorted(used))}": list(map(self.files.describe, self._strays()))}
        for name in self.tops:
            if name not in used:
                inside = [one for one in self.files.names if one.startswith(f"{self.prefix}{name}/")]
                found[f"in the folder {name!r}, which is not used"] = list(map(self.files.describe, inside))
        return {reason: names for reason, names in found.items() if names}


def whole_part(files: Files, folder: str = "") -> Part:
    """Return the images in a folder, relative to the innermost folder that holds all of them in several folders.

    Arguments:
        files: all images.
        folder: its name with a slash at the end; "" for an archive of one split, where a last folder is left aside too.
    """
    names = tuple(name for name in files.names if name.startswith(folder))
    prefix = folder
    while single := _single_folder(names, prefix):
        inner = f"{prefix}{single}/"
        if folder and not all("/" in name[len(inner) :] for name in names):
            break
        prefix = inner
    return Part(files, prefix, names)


def _used(by_role: Mapping[str, str]) -> dict[str, str]:
    """Return which role is which split: validation is the test split where there is no other."""
    tests = [name for name in ("test", "validation") if name in by_role]
    return {"train": "train", **({"test": tests[0]} if tests else {})}


def _by_role(names: Iterable[str], place: str) -> dict[str, str]:
    """Return the name of each role, by what stands before the first dot. Raises `DataError` if two have the same."""
    found: dict[str, str] = {}
    for name, part in ((name, role(name.partition(".")[0])) for name in names):
        if part is not None and part in found:
            raise DataError(f"{place}: {found[part]!r} and {name!r} are both for {part}; remove or rename one of them")
        if part is not None:
            found[part] = name
    return found


def _require_no_splits_inside(names: Sequence[str], prefix: str, place: str) -> None:
    """Raise `DataError` if the sub-folders of all classes are splits."""
    inner = {tuple(name[len(prefix) :].split("/")[:2]) for name in names if name[len(prefix) :].count("/") > 1}
    deeper = {first for first, _ in inner}
    everywhere = deeper == {name[len(prefix) :].partition("/")[0] for name in names}
    if inner and everywhere and all(role(second) for _, second in inner):
        first, second = min(inner)
        raise DataError(
            f"{place}: each class has folders of splits, such as {first}/{second}; move the splits to the top: "
            f'{second}/{first}, or set data.folders = "none"'
        )


def archived_splits(names: Iterable[str], place: str) -> dict[str, str]:
    """Return the splits that are archives in a folder: split → file name. Empty if none of them is for training.

    Raises `DataError` for two archives of one split.
    """
    found = _by_role(sorted(names), place)
    return {split: found[used] for split, used in _used(found).items()} if "train" in found else {}


def _listed(names: Sequence[str] | Mapping[str, int] | set[str]) -> str:
    shown = [repr(name) for name in list(names)[:5]]
    return ", ".join([*shown, f"… ({len(names)} in all)"] if len(names) > len(shown) else shown)
