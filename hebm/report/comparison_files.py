"""A comparison as text, Markdown, CSV, picture or page."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from hebm.errors import ConfigError, HebmError
from hebm.report.comparison import Run, differing_conditions, table
from hebm.report.metric_table import Table, conditions
from hebm.report.numbers import significant
from hebm.report.page import rendered
from hebm.report.panels import KINDS, STYLE, data_address, to_png
from hebm.store.durable import replace_file, reporting

_NUMBERS_FROM = 5
_ACROSS = 5
_SHORTEST_BARS = 1.6


def as_text(cells: Table) -> str:
    """Columns aligned by spaces, numbers to the right."""
    rows = [cells.header, *cells.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(cells.header))]
    return "\n".join(
        "  ".join(
            f"{cell:{'<' if i < _NUMBERS_FROM else '>'}{width}}" for i, (cell, width) in _columns(row, widths)
        ).rstrip()
        for row in rows
    )


def as_markdown(cells: Table) -> str:
    """A table in Markdown."""
    rule = [":--" if i < _NUMBERS_FROM else "--:" for i in range(len(cells.header))]
    rows = [cells.header, rule, *cells.rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)


def as_csv(cells: Table) -> str:
    """Comma-separated values, for programs."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([cells.header, *cells.rows])
    return buffer.getvalue()


def as_page(runs: Sequence[Run]) -> str:
    """A page that needs no other file: table and picture."""
    return rendered(
        "comparison.html.jinja",
        {
            "table": table(runs),
            "numbers_from": _NUMBERS_FROM,
            "picture": data_address(to_png(picture(runs)), "image/png"),
            "conditions": conditions(runs[0].metrics),
            "differing": differing_conditions(runs),
            "names": [run.name for run in runs],
        },
    )


def write_comparison(runs: Sequence[Run], path: Path) -> None:
    """Write a comparison in the format that the file's ending names. Raises `ConfigError` for another ending."""
    formats: dict[str, Callable[[], bytes]] = {
        ".html": lambda: as_page(runs).encode(),
        ".png": lambda: to_png(picture(runs)),
        ".csv": lambda: as_csv(table(runs, exact=True)).encode(),
        ".md": lambda: as_markdown(table(runs)).encode(),
    }
    if path.suffix not in formats:
        raise ConfigError(f"-o {path}: the ending must be one of {', '.join(formats)}")
    with reporting(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, formats[path.suffix]())


# ---------------------------------------------------------------- the picture


def picture(runs: Sequence[Run]) -> Figure:
    """Draws of each run's prior side by side, the first run's data before them, and bars of Fréchet distances."""
    grids = [("data", _grid(runs[0], "data")), *((run.name, _grid(run, "prior")) for run in runs)]
    across = min(_ACROSS, len(grids))
    down = -(-len(grids) // across)
    bars = max(_SHORTEST_BARS, 0.32 * len(runs) * len(_kinds(runs)) ** 0.5 + 0.8)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.3 * max(across, 3), 2.5 * down + bars), layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=[2.5 * down, bars])
        top, bottom = parts
        for i, axes in enumerate(top.subplots(down, across, squeeze=False).flat):
            _show(axes, *grids[i]) if i < len(grids) else axes.set_axis_off()
        _bars(bottom.subplots(), runs)
    return figure


def _kinds(runs: Sequence[Run]) -> list[str]:
    return [kind for kind in KINDS if any(kind in (run.metrics.get("fd") or {}) for run in runs)]


def _grid(run: Run, kind: str) -> np.ndarray | None:
    path = run.folder.samples / f"{kind}.png"
    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except OSError as error:
        raise HebmError(f"{path} is damaged: {error}; make it anew with hebm evaluate") from error


def _show(axes: Axes, title: str, image: np.ndarray | None) -> None:
    axes.set_title(title, loc="left", fontsize=9)
    axes.set_axis_off()
    if image is None:
        axes.text(0.5, 0.5, "no samples", ha="center", va="center", color="#888888")
    else:
        axes.imshow(image, interpolation="none" if max(image.shape) < 400 else "antialiased")


def _bars(axes: Axes, runs: Sequence[Run]) -> None:
    kinds = _kinds(runs)
    height = 0.8 / max(len(kinds), 1)
    for i, kind in enumerate(kinds):
        values = [(run.metrics.get("fd") or {}).get(kind) or 0.0 for run in runs]
        places = [row + (i - (len(kinds) - 1) / 2) * height for row in range(len(runs))]
        bars = axes.barh(places, values, height * 0.92, color=KINDS[kind][1], label=KINDS[kind][0])
        axes.bar_label(bars, [significant(value) for value in values], padding=3, fontsize=7, color="#555555")
    axes.set_yticks(range(len(runs)), [run.name for run in runs])
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel("Fréchet distance to the data (lower is better)")
    axes.margins(x=0.08)
    if kinds:
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _columns(row: Sequence[str], widths: Sequence[int]) -> list[tuple[int, tuple[str, int]]]:
    return list(enumerate(zip(row, widths, strict=True)))
