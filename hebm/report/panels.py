"""Draw small plots as SVG on figure objects, without pyplot, windows, or a change of matplotlib's backend."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hebm.evaluation.kinds import GAUSSIAN, KINDS, PRIOR
from hebm.printable import LINES, printable
from hebm.report.plot_data import Band, Numbers

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#777777", "#222222")
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.8,
    "axes.titlesize": 10,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "hebm",
    "text.usetex": False,
}
_SIZE = (3.6, 2.5)
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.75, 0.2, 0.42, 0.45
"""Margins in inches, which fit tick labels and titles. Measuring them takes longer than drawing the plot."""


@attrs.frozen
class Panel:
    """A plot for the page: a `data:` address, and a title that is also the alternative text."""

    title: str
    source: str


def curves(title: str, lines: Mapping[str, tuple[Sequence[int], Numbers]], xlabel: str = "step") -> Panel:
    """Draw lines (x, y) by name. None leaves a gap.

    The y axis is logarithmic if all values are positive and span a factor of 50.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(title, xlabel)
        for colour, (name, (x, y)) in zip(_cycled(len(lines)), lines.items(), strict=True):
            marker = "." if sum(value is not None for value in y) < 8 else ""
            axes.plot(x, _floats(y), color=colour, lw=1.3, label=literal(name), marker=marker)
        _scale(axes, [value for _, y in lines.values() for value in y])
        if len(lines) > 1:
            axes.legend()
        return Panel(title, _svg(figure))


def heat(title: str, lines: Mapping[str, tuple[Sequence[int], Numbers]], xlabel: str = "step") -> Panel:
    """Draw many lines as a heat map with one row per line, the first on top. Arguments as for `curves`."""
    names, steps = list(lines), next(iter(lines.values()))[0]
    values = np.array([_floats(y) for _, y in lines.values()])
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = _axes(title, xlabel)
        figure.set_layout_engine("constrained")  # for names of any length
        shown = axes.pcolormesh(steps, range(len(names)), values, shading="auto", rasterized=True)
        axes.set_yticks([0, len(names) - 1], [literal(names[0]), literal(names[-1])])
        axes.invert_yaxis()
        figure.colorbar(shown)
        return Panel(title, _svg(figure))


def bars(title: str, values: Mapping[str, float | None], xlabel: str) -> Panel:
    """Draw one bar per number by name. None leaves a gap."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(title, xlabel)
        axes.bar(range(len(values)), _floats(list(values.values())), color=COLOURS[0])
        shown = range(0, len(values), -(-len(values) // 10))
        axes.set_xticks(list(shown), [literal(list(values)[i]) for i in shown])
        return Panel(title, _svg(figure))


def band(title: str, data: Band) -> Panel:
    """Draw the mean and the 10 to 90 % band along a chain."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(title, "step of the chain")
        low, mean, high = (_floats(part) for part in (data.low, data.mean, data.high))
        colour = KINDS[PRIOR].colour
        axes.fill_between(data.steps, low, high, color=colour, alpha=0.2, lw=0, label="10–90 %")
        axes.plot(data.steps, mean, color=colour, lw=1.5, label="mean", marker="." if len(mean) < 20 else "")
        axes.legend()
        return Panel(title, _svg(figure))


def histogram(title: str, values: Mapping[str, Numbers], xlabel: str) -> Panel:
    """Draw densities of several sets of numbers over common bins, without the outermost 0.5 % on each side."""
    finite = {kind: np.array([v for v in found if v is not None]) for kind, found in values.items()}
    finite = {kind: found for kind, found in finite.items() if found.size}
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(title, xlabel, (7.2, 2.7))
        edges = _edges(list(finite.values()))
        for kind in sorted(finite, key=lambda kind: kind != GAUSSIAN):
            known = KINDS.get(kind)
            name, colour = (known.title, known.colour) if known else (kind, COLOURS[-1])
            label = literal(f"{name} (mean {finite[kind].mean():.3g})")
            axes.hist(finite[kind], edges, density=True, histtype="stepfilled", color=colour, alpha=0.25, lw=0)
            axes.hist(finite[kind], edges, density=True, histtype="step", color=colour, lw=1.5, label=label)
        axes.set_ylabel("density")
        axes.set_yticks([])
        if finite:
            axes.legend()
        return Panel(title, _svg(figure))


def to_png(figure: Figure) -> bytes:
    """Return the content of a PNG file of a figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, metadata={"Software": None})
    return buffer.getvalue()


def data_address(content: bytes, kind: str) -> str:
    """Return content as a `data:` address, which makes the page self-contained."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return data_address(buffer.getvalue(), "image/svg+xml")


def _axes(title: str, xlabel: str, size: tuple[float, float] = _SIZE) -> tuple[Figure, Axes]:
    figure, (width, height) = Figure(figsize=size), size
    figure.subplots_adjust(_LEFT / width, _BOTTOM / height, 1 - _RIGHT / width, 1 - _TOP / height)
    axes = figure.add_subplot()
    axes.set_title(literal(title), loc="left")
    axes.set_xlabel(literal(xlabel))
    return figure, axes


def _scale(axes: Axes, values: Sequence[float | None]) -> None:
    found = [value for value in values if value is not None]
    if found and min(found) > 0 and max(found) > 50 * min(found):
        axes.set_yscale("log")
    elif len(found) > 20:
        _cut_start(axes, found)


def _cut_start(axes: Axes, found: Sequence[float]) -> None:
    """Clip the y axis if a steep start would flatten the rest of the curve, and note this in the plot."""
    low, high = np.quantile(found, [0.02, 0.98])
    bottom, top = min(found), max(found)
    margin = 0.15 * (high - low)
    if high > low and top - bottom > 4 * (high - low):
        axes.set_ylim(max(bottom, low - margin) - margin, min(top, high + margin) + margin)
        axes.text(0.98, 0.03, f"off scale: {bottom:.3g} to {top:.3g}", transform=axes.transAxes, ha="right", fontsize=7)


def _edges(sets: Sequence[np.ndarray]) -> list[float]:
    if not sets:
        return [-1.0, 0.0, 1.0]
    low = min(np.quantile(found, 0.005) for found in sets)
    high = max(np.quantile(found, 0.995) for found in sets)
    margin = max(0.03 * (high - low), 1e-6 * max(1.0, abs(high)))
    edges: list[float] = np.linspace(low - margin, high + margin, 49).tolist()
    return edges


def _cycled(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _floats(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else value for value in values]


def literal(text: str) -> str:
    """Escape text so that matplotlib draws it literally: no mathematics, and no hidden legend entries ("_…")."""
    shown = printable(text, LINES).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown
