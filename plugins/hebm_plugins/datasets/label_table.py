"""Parse a CSV that labels images.

    file,kind                     one column after the file: classes, numbered in alphabetical order
    cats/1.png,cat
    dogs/1.png,dog

    file,smiling,eyeglasses       several columns: binary attributes, each 1 or 0, 1 or −1, true or false
    1.png,1,0
    2.png,0,0

The file is UTF-8. Its first line is a header, commas separate the cells, and cells that contain a comma are quoted.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import attrs

from hebm.data.image_names import is_named_image
from hebm.data.labels import normal_form
from hebm.errors import DataError

Value: TypeAlias = str | tuple[int, ...]
"""The name of a class, or attributes in {0, 1}."""

_BITS = {"1": 1, "0": 0, "-1": -1, "true": 1, "false": 0}


@attrs.frozen
class Row:
    """One line of the table: its number, for messages, and the label of the image."""

    line: int
    value: Value


@attrs.frozen
class LabelTable:
    """The lines of a CSV by file name.

    Arguments:
        where: the name of the CSV in messages.
        attributes: names of the attributes; () if the table has classes.
        rows: file name → line.
    """

    where: str
    attributes: tuple[str, ...]
    rows: Mapping[str, Row]


def read_table(data: bytes, where: str) -> LabelTable:
    """Parse a CSV.

    Arguments:
        data: the bytes of the file.
        where: the name of the CSV in messages.

    Raises `DataError`, with the number of the line, for a malformed table.
    """
    lines = _lines(data, where)
    number, header = next(lines, (1, []))
    columns = _columns(header, f"{where}, line {number}")
    attributes = columns if len(columns) > 1 else ()
    rows: dict[str, Row] = {}
    for number, cells in lines:
        place = f"{where}, line {number}"
        if len(cells) != len(columns) + 1:
            raise DataError(f"{place}: has {len(cells)} cells, the header has {len(columns) + 1}; fix the line")
        name = cells[0].removeprefix("./")
        if name in rows:
            raise DataError(f"{place}: {name!r} is already in line {rows[name].line}; remove one of the lines")
        rows[name] = Row(number, _bits(cells[1:], columns, place) if attributes else _class(cells[1], place))
    return LabelTable(where, attributes, _zeros_for_minus_ones(rows, where) if attributes else rows)


def _lines(data: bytes, where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (number, cells) of each line that is not empty, without spaces around the cells."""
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: is not UTF-8 (byte {error.start}); save the table as UTF-8") from error
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield reader.line_num, list(map(str.strip, cells))
    except csv.Error as error:
        raise DataError(f"{where}, line {reader.line_num}: is not CSV ({error}); fix the line") from error


def _columns(header: list[str], where: str) -> tuple[str, ...]:
    """Return the column names after the first."""
    example = "the first line is a header, such as file,class or file,smiling,male"
    if len(header) < 2:
        raise DataError(f"{where}: has {len(header)} column(s), expected two or more, separated by commas; {example}")
    if is_named_image(header[0]):
        raise DataError(f"{where}: is not a header: it starts with the image {header[0]!r}; {example}: add one")
    seen: set[str] = set()
    for name in header[1:]:
        form = normal_form(name)
        if not form or form in seen:
            what = "occurs twice" if form else "is empty"
            raise DataError(f"{where}: the column name {name!r} {what}; give each column a unique name")
        seen.add(form)
    return tuple(header[1:])


def _class(cell: str, where: str) -> str:
    if not cell:
        raise DataError(f"{where}: the class is empty; fill it in, or remove the image and its line")
    return cell


def _bits(cells: list[str], columns: tuple[str, ...], where: str) -> tuple[int, ...]:
    for cell, column in zip(cells, columns, strict=True):
        if cell.lower() not in _BITS:
            fix = "allowed are 1 and 0, 1 and -1, true and false"
            raise DataError(f"{where}: {column} is {cell!r}; {fix} (a table with one column may have any classes)")
    return tuple(_BITS[cell.lower()] for cell in cells)


def _zeros_for_minus_ones(rows: dict[str, Row], where: str) -> dict[str, Row]:
    """Read −1 as 0 if no line has a 0; in a table with both, −1 might mean "unknown"."""
    minus = next((row.line for row in rows.values() if -1 in row.value), None)
    zero = next((row.line for row in rows.values() if 0 in row.value), None)
    if minus is None:
        return rows
    if zero is not None:
        raise DataError(f'{where}: "no" is 0 in line {zero}, but -1 in line {minus}; use one of them throughout')
    return {name: Row(row.line, tuple(int(bit == 1) for bit in row.value)) for name, row in rows.items()}
