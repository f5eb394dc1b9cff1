"""A comparison as text, Markdown, CSV, JSON, picture or page."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from hebm.errors import ConfigError
from hebm.evaluation.kinds import DATA, KINDS, PRIOR
from hebm.evaluation.metric import SHARE, Measurement
from hebm.report.compared_plots import by_title, draw_plot
from hebm.report.comparison import FACTS, Run, as_plain, columns, differing_conditions, exact_table, table
from hebm.report.metric_table import Group, Table, conditions, label
from hebm.report.numbers import measured, printable
from hebm.report.page import rendered
from hebm.report.panels import STYLE, data_address, literal, to_png
from hebm.report.pictures import read_picture
from hebm.store.durable import replace_file, reporting
from hebm.store.metrics import finite

_NUMBERS_FROM = len(FACTS) - 1
_HEAD_WIDTH = 14
_ACROSS = 5
_BARS_ACROSS = 3
_SHORTEST_BARS = 1.6
_PLOT = 3.4


def as_text(cells: Table) -> str:
    """Align columns by spaces, numbers to the right; long heads take several lines."""
    heads = [[line for part in cell.split("\n") for line in _wrapped(part)] for cell in cells.header]
    height = max(map(len, heads))
    lines = [[""] * (height - len(head)) + head for head in heads]
    rows = [*zip(*lines, strict=True), *cells.rows]
    widths = [max(len(printable(row[i])) for row in rows) for i in range(len(cells.header))]
    return "\n".join("  ".join(_aligned(row, widths)).rstrip() for row in rows)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _HEAD_WIDTH, break_long_words=False) or [""]


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    sides = ["<" if i < _NUMBERS_FROM else ">" for i in range(len(row))]
    return [f"{printable(cell):{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)]


def as_markdown(cells: Table) -> str:
    """Write a table in Markdown."""
    rule = [":--" if i < _NUMBERS_FROM else "--:" for i in range(len(cells.header))]
    rows = [[cell.replace("\n", ", ") for cell in cells.header], rule, *cells.rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


def as_csv(cells: Table) -> str:
    """Write comma-separated values, for programs."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([cells.header, *cells.rows])
    return buffer.getvalue()


def as_json(runs: Sequence[Run]) -> str:
    """Write every measurement of every run with its conditions, for programs."""
    return json.dumps(finite(as_plain(runs)), indent=2, allow_nan=False) + "\n"


def as_page(runs: Sequence[Run]) -> str:
    """Write a page that needs no other file: table and picture."""
    chosen = columns(runs)
    return rendered(
        "comparison.html.jinja",
        {
            "table": table(runs, chosen),
            "numbers_from": _NUMBERS_FROM,
            "learned": [len(FACTS) + i for i, column in enumerate(chosen) if column.kind == PRIOR],
            "picture": data_address(to_png(picture(runs)), "image/png"),
            "conditions": conditions(runs[0].results),
            "differing": differing_conditions(runs),
            "names": [run.name for run in runs],
        },
    )


def write_comparison(runs: Sequence[Run], path: Path) -> None:
    """Write a comparison in the format of the file's ending. Raises `ConfigError` for another ending."""
    formats: dict[str, Callable[[], bytes]] = {
        ".html": lambda: as_page(runs).encode(),
        ".png": lambda: to_png(picture(runs)),
        ".csv": lambda: as_csv(exact_table(runs)).encode(),
        ".json": lambda: as_json(runs).encode(),
        ".md": lambda: as_markdown(table(runs)).encode(),
    }
    if path.suffix not in formats:
        raise ConfigError(f"{path}: the ending must be one of {', '.join(formats)}")
    with reporting(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, formats[path.suffix]())


# ---------------------------------------------------------------- the picture


def picture(runs: Sequence[Run]) -> Figure:
    """Draw samples of each run's prior after the first run's data, bars of every result about learned priors, plots.

    A plot is drawn where an analysis of some run has its data, with lines of each such run.
    """
    grids = [(KINDS[DATA].title, _grid(runs[0], DATA)), *((run.name, _grid(run, PRIOR)) for run in runs)]
    across, bars, plots = min(_ACROSS, len(grids)), _bar_groups(runs), by_title({run.name: run.plots for run in runs})
    down, rows_of_bars = -(-len(grids) // across), -(-len(bars) // _BARS_ACROSS)
    height = max(_SHORTEST_BARS, 0.32 * len(runs) * max(map(len, bars), default=1) ** 0.5 + 0.8) * rows_of_bars
    heights = [2.5 * down, *([height] if bars else []), *([_PLOT] * len(plots))]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.3 * max(across, 3), sum(heights)), layout="constrained")
        parts: Any = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        for i, axes in enumerate(parts[0].subplots(down, across, squeeze=False).flat):
            _show(axes, *grids[i]) if i < len(grids) else axes.set_axis_off()
        if bars:
            _all_bars(parts[1], bars, rows_of_bars, runs)
        for part, shared in zip(parts[len(heights) - len(plots) :], plots.values(), strict=True):
            draw_plot(part.subplots(), shared)
    return figure


def _bar_groups(runs: Sequence[Run]) -> list[list[Measurement]]:
    """Return the columns of each result of learned priors in each extractor, in the order of the kinds."""
    found: dict[tuple[str, str], list[Measurement]] = {}
    for column in columns(runs):
        if column.kind is not None and not column.part:
            found.setdefault((column.name, column.extractor), []).append(column)
    order = list(KINDS)
    return [
        sorted(group, key=lambda column: order.index(str(column.kind)))
        for group in found.values()
        if any(column.kind == PRIOR for column in group)
    ]


def _grid(run: Run, kind: str) -> np.ndarray | None:
    found = read_picture(run.folder.samples / f"{kind}.png")
    return None if found is None else np.asarray(found)


def _show(axes: Axes, title: str, image: np.ndarray | None) -> None:
    axes.set_title(literal(title), loc="left", fontsize=9)
    axes.set_axis_off()
    if image is None:
        axes.text(0.5, 0.5, "no samples", ha="center", va="center", color="#888888")
    else:
        axes.imshow(image, interpolation="none" if max(image.shape) < 400 else "antialiased")


def _all_bars(part: Any, groups: Sequence[Sequence[Measurement]], down: int, runs: Sequence[Run]) -> None:
    across = min(_BARS_ACROSS, len(groups))
    every = list(part.subplots(down, across, squeeze=False).flat)
    for axes in every[len(groups) :]:
        axes.set_axis_off()
    for i, (axes, group) in enumerate(zip(every, groups, strict=False)):
        _bars(axes, group, runs)
        words = Group(tuple(group)).heading, label(group[0], [column for each in groups for column in each])
        axes.set_title(literal("\n".join(filter(None, words))), loc="left")
        axes.set_yticks(range(len(runs)), [literal(run.name) for run in runs] if i % across == 0 else [""] * len(runs))
    drawn = {column.kind: KINDS[column.kind] for group in groups for column in group if column.kind is not None}
    patches = [Patch(color=kind.colour, label=kind.title) for name, kind in KINDS.items() if name in drawn]
    part.legend(handles=patches, loc="outside lower center", ncols=len(patches))


def _bars(axes: Axes, group: Sequence[Measurement], runs: Sequence[Run]) -> None:
    """Bars of one result: a row for each run, a bar for each kind, with standard errors where they are known."""
    height = 0.8 / len(group)
    for i, column in enumerate(group):
        found = [(row, run.find(column)) for row, run in enumerate(runs)]
        numbers = [(row, measurement) for row, measurement in found if measurement is not None]
        places = [row + (i - (len(group) - 1) / 2) * height for row, _ in numbers]
        values, errors = [m.value for _, m in numbers], [m.error or 0.0 for _, m in numbers]
        bars = axes.barh(places, values, height * 0.92, color=KINDS[str(column.kind)].colour)
        if any(errors):
            axes.errorbar(values, places, xerr=errors, fmt="none", ecolor="#222222", elinewidth=1)
        axes.bar_label(bars, [measured(m) for _, m in numbers], padding=3, fontsize=7, color="#555555")
    axes.set_ylim(len(runs) - 0.5, -0.5)
    axes.grid(False, axis="y")
    axes.margins(x=0.25)
    if group[0].unit == SHARE:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
