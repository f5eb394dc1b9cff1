"""Choose the splits and columns of a data set of the library `datasets`, and read its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from hebm.errors import DataError
from hebm_plugins.datasets.csv_labels import Labels

NO_LABELS = ""
"""Value of the option `label` that leaves labels out."""
_LABELS = ("label", "labels", "class")
_TEST = ("test", "validation")


@attrs.frozen
class Asked:
    """The splits and columns that options name; None for those that are to be found."""

    train: str | None
    test: str | None
    image: str | None
    label: str | None


@attrs.frozen
class Chosen:
    """The parts of a data set to use.

    Arguments:
        train, test: names of the splits; no test split if it is None.
        image: column of the images.
        label: column of the labels, or None.
        found: what was found without an option that names it, for people.
    """

    train: str
    test: str | None
    image: str
    label: str | None
    found: tuple[str, ...]


def choose(splits: Mapping[str, Any], where: str, asked: Asked) -> Chosen:
    """Choose splits and columns: those that options name, or else the only possible ones.

    Arguments:
        splits: a `datasets.Dataset` for each name.
        where: what messages call the data set.
        asked: the options.

    Raises `DataError` for a name that does not exist or does not fit, and if several are possible, with all names.
    """
    train = _train_split(list(splits), where, asked.train)
    test = _test_split(list(splits), where, asked.test, train)
    image = _image_column(splits[train].features, where, asked.image)
    label = _label_column(splits[train].features, where, asked.label)
    said = (
        (asked.train, f"training images from split {train!r}"),
        (asked.test, f"test images from split {test!r}" if test else "test images held out"),
        (asked.image, f"images from column {image!r}"),
        (asked.label, f"classes from column {label!r}" if label else "no classes"),
    )
    return Chosen(train, test, image, label, tuple(text for name, text in said if name is None))


def _train_split(names: Sequence[str], where: str, asked: str | None) -> str:
    if asked is None and "train" not in names and len(names) > 1:
        raise DataError(f"{where}: has no split 'train'; set data.train to one of: {', '.join(names)}")
    return _existing(asked or ("train" if "train" in names else names[0]), names, where, "train", "split")


def _test_split(names: Sequence[str], where: str, asked: str | None, train: str) -> str | None:
    if asked is not None:
        return _existing(asked, names, where, "test", "split")
    return next((name for name in _TEST if name in names and name != train), None)


def _existing(asked: str, names: Sequence[str], where: str, key: str, kind: str) -> str:
    if asked not in names:
        raise DataError(f"{where}: has no {kind} {asked!r}; set data.{key} to one of: {', '.join(names)}")
    return asked


# ---------------------------------------------------------------- columns


def _image_column(features: Mapping[str, Any], where: str, asked: str | None) -> str:
    images = [name for name, feature in features.items() if _holds_images(feature)]
    if asked is not None:
        if _existing(asked, list(features), where, "image", "column") not in images:
            raise DataError(f"{where}: column {asked!r} does not hold encoded images; {_columns(features)}")
        return asked
    if not images:
        fix = "cast one with cast_column(NAME, datasets.Image()), or save arrays as .npy for the data set arrays"
        raise DataError(f"{where}: no column holds encoded images; {fix}; {_columns(features)}")
    if len(images) > 1:
        raise DataError(f"{where}: several columns hold images; set data.image to one of: {', '.join(images)}")
    return images[0]


def _holds_images(feature: Any) -> bool:
    """Return whether a column has images, their encoded bytes, or structs of these."""
    if isinstance(feature, Mapping):
        return "bytes" in feature and _holds_images(feature["bytes"])
    return type(feature).__name__ == "Image" or getattr(feature, "dtype", None) in ("binary", "large_binary")


def _label_column(features: Mapping[str, Any], where: str, asked: str | None) -> str | None:
    if asked == NO_LABELS:
        return None
    if asked is not None:
        if not _holds_classes(features[_existing(asked, list(features), where, "label", "column")]):
            raise DataError(f"{where}: column {asked!r} does not hold classes; {_columns(features)}")
        return asked
    named = [name for name, feature in features.items() if _class_names(feature) is not None]
    named = named or [name for name in _LABELS if name in features and _holds_classes(features[name])]
    if len(named) > 1:
        fix = f"set data.label to one of: {', '.join(named)}, or to {NO_LABELS!r} for no labels"
        raise DataError(f"{where}: several columns hold classes; {fix}")
    return named[0] if named else None


def _holds_classes(feature: Any) -> bool:
    kind = str(getattr(feature, "dtype", ""))
    return kind == "bool" or kind.startswith(("int", "uint")) or kind in ("string", "large_string")


def _class_names(feature: Any) -> tuple[str, ...] | None:
    """Return the names of a `ClassLabel`; None for any other feature."""
    return tuple(feature.names) if type(feature).__name__ == "ClassLabel" else None


def _columns(features: Mapping[str, Any]) -> str:
    kinds = (f"{name} ({getattr(some, 'dtype', type(some).__name__)})" for name, some in features.items())
    return f"its columns: {', '.join(kinds)}"


# ---------------------------------------------------------------- labels


def labels_of(splits: Mapping[str, Any], column: str, where: str) -> dict[str, Labels]:
    """Return the labels of every split. A split without the column has no labels.

    The names of a `ClassLabel` are kept, texts name their classes, and integers number them.

    Arguments:
        splits: a `datasets.Dataset` for each name; at least one has the column.
        column: the column of the labels.
        where: what messages call the data set.

    Raises `DataError` for images without a label, class names that differ between splits, and numbers with gaps.
    """
    values = {name: _values(rows, column, f"{where}, split {name!r}") for name, rows in splits.items()}
    names = {_class_names(rows.features[column]) for rows in splits.values() if column in rows.features}
    if len(names) > 1:
        raise DataError(f"{where}: the classes of column {column!r} differ between the splits {', '.join(splits)}")
    classes = names.pop()
    if classes is None:
        used = sorted({value for some in values.values() for value in some})
        position = {value: i for i, value in enumerate(used)}
        classes = _names_of(used, f"{where}, column {column!r}")
        values = {name: [position[value] for value in some] for name, some in values.items()}
    return {name: Labels(tuple(some), classes) for name, some in values.items()}


def _names_of(used: Sequence[Any], where: str) -> tuple[str, ...]:
    """Return the names of classes without a `ClassLabel`, from their sorted values."""
    if not all(isinstance(value, str) for value in used) and list(map(int, used)) != list(range(len(used))):
        fix = f"cast it to a datasets.ClassLabel, or set data.label = {NO_LABELS!r}"
        raise DataError(f"{where}: its {len(used)} classes are not numbered 0 … {len(used) - 1} without a gap; {fix}")
    return tuple(str(value if isinstance(value, str) else int(value)) for value in used)


def _values(rows: Any, column: str, where: str) -> list[Any]:
    if column not in rows.features:
        return []
    found: list[Any] = rows.select_columns([column])[:][column]
    missing = next((i for i, value in enumerate(found) if value is None or value == -1), None)
    if missing is not None:
        fix = f"choose other splits with data.train and data.test, or set data.label = {NO_LABELS!r}"
        raise DataError(f"{where}: row {missing} has no label in column {column!r}; {fix}")
    return found
