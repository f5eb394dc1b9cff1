"""Save plots as PNG files in the report's style. No window is opened, and matplotlib's backend is not changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import attrs
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from hebm.analysis.compared_plot import Plot
from hebm.report.compared_plots import draw_plot
from hebm.report.panels import COLOURS, STYLE, literal, to_png
from hebm.store.durable import replace_file, reporting

T = TypeVar("T")

_ACROSS = 3
_PANEL = (3.7, 2.6)
_LARGE = (6.4, 4.0)
_BINS = 40


@attrs.frozen(eq=False)
class Line:
    """Points (x, y) of a line, with an optional band from `low` to `high`. NaN leaves a gap."""

    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def save_curves(
    path: Path,
    panels: Mapping[str, Mapping[str, Line]],
    xlabel: str,
    marks: Sequence[float] = (),
    level: float | None = None,
) -> None:
    """Write panels of lines side by side.

    Arguments:
        path: path of the PNG.
        panels: lines by label, by title of the panel.
        xlabel: label of every x axis.
        marks: positions x of vertical dashed lines.
        level: reference value y, drawn as a horizontal dashed line.

    Raises `CheckpointError` if the file cannot be written.
    """

    def draw(axes: Axes, lines: Mapping[str, Line]) -> None:
        for colour, (label, line) in zip(COLOURS * len(lines), lines.items(), strict=False):
            _line(axes, line, label, colour)
        for mark in marks:
            axes.axvline(mark, color="#999999", lw=0.8, ls="--")
        if level is not None:
            axes.axhline(level, color="#999999", lw=0.8, ls="--")
        axes.set_xlabel(literal(xlabel))
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        if len(lines) > 1:
            axes.legend()

    _save(path, panels, draw)


def _line(axes: Axes, line: Line, label: str, colour: str) -> None:
    axes.plot(line.x, line.y, color=colour, lw=1.4, label=literal(label), marker="." if len(line.x) < 20 else "")
    if line.low is not None and line.high is not None:
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.18, lw=0)


def save_plot(path: Path, plot: Plot) -> None:
    """Write one run's plot, which `hebm compare` also draws. Raises `CheckpointError` if the file cannot be written."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=_LARGE, layout="constrained")
        draw_plot(figure.subplots(), {"": plot})
        content = to_png(figure)
    with reporting(f"write {path}"):
        replace_file(path, content)


def save_histograms(path: Path, panels: Mapping[str, Mapping[str, Tensor]], xlabel: str) -> None:
    """Write panels of histograms without the outermost 0.5 % on each side.

    Arguments:
        path: path of the PNG.
        panels: sets of numbers `(N,)` by label, by title of the panel.
        xlabel: label of every x axis.

    Raises `CheckpointError` if the file cannot be written.
    """

    def draw(axes: Axes, sets: Mapping[str, Tensor]) -> None:
        arrays = {label: values[values.isfinite()].double().cpu().numpy() for label, values in sets.items()}
        edges = _edges([values for values in arrays.values() if values.size])
        for colour, (label, values) in zip(COLOURS * len(arrays), arrays.items(), strict=False):
            weights = np.full(values.size, 1 / max(1, values.size))
            axes.hist(values, edges, weights=weights, histtype="stepfilled", color=colour, alpha=0.25, lw=0)
            axes.hist(values, edges, weights=weights, histtype="step", color=colour, lw=1.4, label=literal(label))
        axes.set_xlabel(literal(xlabel))
        axes.xaxis.set_major_locator(MaxNLocator(4))  # scores may take many digits
        axes.set_yticks([])
        axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # room for the legend
        axes.legend()

    _save(path, panels, draw)


def _edges(sets: Sequence[np.ndarray]) -> list[float]:
    if not sets:
        return [-1.0, 0.0, 1.0]
    low = min(float(np.quantile(values, 0.005)) for values in sets)
    high = max(float(np.quantile(values, 0.995)) for values in sets)
    margin = max(0.02 * (high - low), 1e-6 * max(1.0, abs(high)))
    edges: list[float] = np.linspace(low - margin, high + margin, _BINS + 1).tolist()
    return edges


def _save(path: Path, panels: Mapping[str, T], draw: Callable[[Axes, T], None]) -> None:
    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(_PANEL[0] * max(across, 2), _PANEL[1] * down), layout="constrained")
        for i, axes in enumerate(figure.subplots(down, across, squeeze=False).flat):
            if i >= len(panels):
                axes.set_axis_off()
                continue
            title = list(panels)[i]
            axes.set_title(literal(title), loc="left")
            draw(axes, panels[title])
        content = to_png(figure)
    with reporting(f"write {path}"):
        replace_file(path, content)
