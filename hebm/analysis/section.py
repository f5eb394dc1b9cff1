"""A section of the report, with text, pictures and tables. Analyses return sections, and run folders store them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from hebm.analysis.compared_plot import Plot
from hebm.store.durable import listed, replace_file, reporting
from hebm.store.json_shapes import damaged, read_json, shaped
from hebm.store.own_sums import require_own_sum, without_sum, write_summed

FILE = "section.json"


@attrs.frozen
class Picture:
    """A PNG in the folder of the section's file.

    Arguments:
        file: name of the file.
        title: title, which is also the alternative text.
        caption: explanation of how to read it.
        pixels: whether it is a grid of images, which is shown without smoothing.
        timed: whether it shows measured times, which differ each time the analysis runs.
    """

    file: str
    title: str
    caption: str = ""
    pixels: bool = False
    timed: bool = False


@attrs.frozen
class Table:
    """A table of text. Each row starts with its name."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    def __str__(self) -> str:
        lines = (self.header, *self.rows)
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        cells = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([self.title, *(line.rstrip() for line in cells), *([self.caption] if self.caption else [])])


@attrs.frozen
class Section:
    """The results of an analysis. `print` shows its text and tables.

    Arguments:
        title: title of the section.
        text: paragraphs on the method and the results, including failures.
        pictures, tables: pictures and tables in order.
        numbers: the results for programs, in JSON types.
        timings: paragraphs with measured times, which differ each time the analysis runs.
        plots: plots that `hebm compare` draws for several runs.
    """

    title: str
    text: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    numbers: Mapping[str, Any] = attrs.field(factory=dict)
    timings: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()

    def __str__(self) -> str:
        return "\n\n".join((self.title, *self.text, *self.timings, *(str(table) for table in self.tables)))

    def write(self, folder: Path, conditions: Mapping[str, Any]) -> None:
        """Write `section.json`.

        Arguments:
            folder: folder of the analysis, with the pictures.
            conditions: conditions of the results, such as seed, steps and options.

        Raises `CheckpointError` if it cannot be written.
        """
        write_summed(folder / FILE, {**attrs.asdict(self), "conditions": dict(conditions)})


@attrs.frozen
class _File:
    """The JSON schema of the file `section.json`."""

    title: str
    text: tuple[str, ...]
    pictures: tuple[Picture, ...]
    tables: tuple[Table, ...]
    numbers: Mapping[str, Any]
    timings: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    conditions: Mapping[str, Any] = attrs.field(factory=dict)


def read_section(folder: Path) -> Section:
    """Read the section in an analysis's folder. Raises `CheckpointError` with path and key if it is malformed."""
    path, fix = folder / FILE, "run hebm analyse again"
    read = read_json(path, fix)
    with damaged(path, fix):
        found: _File = shaped(_File, without_sum(read))
        require_own_sum(read)
    return Section(*(getattr(found, field.name) for field in attrs.fields(Section)))


def read_sections(analyses: Path) -> dict[str, Section]:
    """Read all sections in a run's folder of analyses, by name in alphabetical order.

    Raises `CheckpointError` if a section is damaged.
    """
    with reporting(f"read {analyses}"):
        folders = [path for path in listed(analyses) if path.name[0] != "." and path.is_dir() and listed(path)]
    return {folder.name: read_section(folder) for folder in folders}


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write or replace a CSV file. Raises `CheckpointError` if it cannot be written."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([header, *rows])
    with reporting(f"write {path}"):
        replace_file(path, buffer.getvalue().encode(errors="backslashreplace"))
