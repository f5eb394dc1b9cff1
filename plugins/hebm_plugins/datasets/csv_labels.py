"""Find the CSV that labels the images: one for all of them, or one within each split.

The table is searched for in the folder of the images, in its parents up to the top of the folder or archive, and next
to the archive. Names in it are relative to the table's own folder or to the top of `root`; in a table next to the
archives train.zip and test.zip they start with train/ and test/.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import torch
from torch import Tensor

from hebm.data.files import Files
from hebm.errors import DataError
from hebm_plugins.datasets.label_table import LabelTable, Row, Value, read_table


@attrs.frozen
class Part:
    """The images of one split.

    Arguments:
        files: where they are.
        prefix: the folder within that holds all of them, with its slash, or "".
        names: their names in `files`.
    """

    files: Files
    prefix: str
    names: tuple[str, ...]

    @property
    def inner(self) -> tuple[str, ...]:
        """Return the names relative to the prefix."""
        return tuple(name[len(self.prefix) :] for name in self.names)


@attrs.frozen
class Labels:
    """Labels of images, in their order; without values, there are none.

    Arguments:
        values: class indices, or attributes in {0, 1}.
        classes: names of the classes, or ().
        attributes: names of the attributes, or ().
    """

    values: tuple[int | tuple[int, ...], ...] = ()
    classes: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()

    def keep(self, positions: Sequence[int]) -> Labels:
        """Return the labels at these positions."""
        return attrs.evolve(self, values=tuple(self.values[i] for i in positions) if self.values else ())

    def tensor(self) -> Tensor | None:
        """Return labels `(N,)` or attributes `(N, A)`; None without labels."""
        return torch.tensor(self.values) if self.values else None


@attrs.frozen
class _Found:
    """A table and its folder within the part's files, None if it lies outside."""

    table: LabelTable
    folder: str | None


def labels_of(parts: Mapping[str, Part], name: str, root: Path) -> dict[str, Labels]:
    """Read the labels of every split.

    Arguments:
        parts: the splits' images; "" where the images are not split.
        name: file name of the CSV, which lies with the images; or an absolute path.
        root: of the data set.

    Raises `DataError` for a missing or malformed table, a name in it without an image, and an image without a line.
    """
    found = _tables(parts, name, root)
    tables = {one.table.where: one.table for one in found.values()}
    _check_alike(tables)
    rows = {split: _rows(split, part, found[split], _archived(parts)) for split, part in parts.items()}
    _check_all_used(tables, found, rows, root)
    for split, part in parts.items():
        _check_complete(part, rows[split], found[split].table)
    return _numbered(tables, {split: [row.value for row in mine if row is not None] for split, mine in rows.items()})


def _numbered(tables: Mapping[str, LabelTable], values: Mapping[str, list[Value]]) -> dict[str, Labels]:
    """Number the classes, alike in all splits; leave attributes unchanged."""
    named = {row.value for table in tables.values() for row in table.rows.values() if isinstance(row.value, str)}
    classes, attributes = tuple(sorted(named)), next(iter(tables.values())).attributes
    number = {name: i for i, name in enumerate(classes)}
    return {
        split: Labels(tuple(number[one] if isinstance(one, str) else one for one in mine), classes, attributes)
        for split, mine in values.items()
    }


def _archived(parts: Mapping[str, Part]) -> bool:
    """Whether each split is an archive of its own, so that a name alone does not say which."""
    return len({part.files.path for part in parts.values()}) > 1


# ---------------------------------------------------------------- where the tables are


def _tables(parts: Mapping[str, Part], name: str, root: Path) -> dict[str, _Found]:
    read: dict[str, LabelTable] = {}
    found = {}
    for split, part in parts.items():
        folder, where = _place(part, name, root)
        if where not in read:
            data = _bytes(Path(where)) if folder is None else part.files.read(f"{folder}{name}")
            read[where] = read_table(data, where)
        found[split] = _Found(read[where], folder)
    return found


def _place(part: Part, name: str, root: Path) -> tuple[str | None, str]:
    """Return the table's folder within the part's files, None if it lies outside, and its whole path."""
    if not Path(name).is_absolute():
        for folder in _upwards(part.prefix):
            if part.files.has(f"{folder}{name}"):
                return folder, part.files.describe(f"{folder}{name}")
    outside = (root if root.is_dir() else root.parent) / name
    if not outside.is_file():
        fix = "set data.labels to the name of a CSV next to the images, or to its absolute path"
        inside = "" if Path(name).is_absolute() else f", and none of this name in {part.files.path}"
        raise DataError(f"{outside}: no such file{inside}; {fix}")
    return None, str(outside)


def _upwards(prefix: str) -> Iterator[str]:
    """Yield the folder, its parents, and the top, ""."""
    parts = prefix.split("/")[:-1]
    yield from ("".join(f"{part}/" for part in parts[:n]) for n in range(len(parts), -1, -1))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error}); fix it, or set data.labels to another CSV") from error


# ---------------------------------------------------------------- which line is whose


def _rows(split: str, part: Part, found: _Found, archived: bool) -> list[Row | None]:
    rows = found.table.rows
    keys = (_keys(name, split, part, found.folder, archived) for name in part.names)
    return [next((rows[key] for key in options if key in rows), None) for options in keys]


def _keys(name: str, split: str, part: Part, folder: str | None, archived: bool) -> list[str]:
    """Yield the names under which the table may list an image."""
    inner = name[len(part.prefix) :]
    called = [f"{split}/{inner}" if split else inner]
    if folder is not None:
        called.append(name[len(folder) :])
    if folder is not None or not archived:
        called.append(name)
    return called


def _check_alike(tables: Mapping[str, LabelTable]) -> None:
    first, *others = tables.values()
    for other in others:
        if other.attributes != first.attributes:
            fix = "give both tables the same columns, in the same order"
            raise DataError(f"{other.where}: has other columns than {first.where}; {fix}")


def _check_all_used(
    tables: Mapping[str, LabelTable], found: Mapping[str, _Found], rows: Mapping[str, list[Row | None]], root: Path
) -> None:
    for where, table in tables.items():
        mine = [row for split, one in found.items() if one.table is table for row in rows[split]]
        used = {row.line for row in mine if row is not None}
        unknown = [(name, row.line) for name, row in table.rows.items() if row.line not in used]
        if unknown:
            name, line = unknown[0]
            more = f" ({len(unknown)} such lines)" if len(unknown) > 1 else ""
            fix = f"names are relative to the table's folder, or to {root}; fix or remove the line"
            raise DataError(f"{where}, line {line}: image {name!r} not found{more}; {fix}")


def _check_complete(part: Part, rows: list[Row | None], table: LabelTable) -> None:
    missing = [name for name, row in zip(part.names, rows, strict=True) if row is None]
    if missing:
        image, number = part.files.describe(missing[0]), f"{len(missing)} of {len(rows)} images have"
        raise DataError(f"{table.where}: {number} no line, one is {image}; add lines, or remove the images")
