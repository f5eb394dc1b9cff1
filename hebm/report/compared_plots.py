"""Draw the plots that several runs share (`hebm.analysis.compared_plot`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from hebm.analysis.compared_plot import Curve, Plot
from hebm.report.panels import COLOURS, literal

_STYLES = ("-", "--", ":", "-.")
_FEW = 30
"""Largest number of points that are drawn with markers."""


def by_title(runs: Mapping[str, Sequence[Plot]]) -> dict[str, dict[str, Plot]]:
    """Return the plots by title, then by name of the run."""
    found: dict[str, dict[str, Plot]] = {}
    for name, plots in runs.items():
        for plot in plots:
            found.setdefault(plot.title, {})[name] = plot
    return found


def draw_plot(axes: Axes, plots: Mapping[str, Plot]) -> None:
    """Draw the plots of one title. The legend omits the name of a single run.

    A single run has one colour per curve. Several runs have one colour per run and one line style per curve.
    """
    first, alone = next(iter(plots.values())), len(plots) == 1
    labels = list(dict.fromkeys(curve.label for plot in plots.values() for curve in plot.curves))
    for i, (name, plot) in enumerate(plots.items()):
        for curve in plot.curves:
            k = labels.index(curve.label)
            colour = COLOURS[(k if alone else i) % len(COLOURS)]
            parts = (curve.label,) if alone else (name, curve.label)
            _curve(axes, curve, literal(", ".join(filter(None, parts))), colour, "-" if alone else _STYLES[k % 4])
    if first.log:
        axes.set_xscale("log")
        for set_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            set_formatter(FuncFormatter(lambda x, _: f"{x:g}" if f"{x:e}"[0] in "125" else ""))
    for label, values in _levels(plots).items():
        _level(axes, label, values)
    axes.set_title(literal(first.title), loc="left")
    axes.set_xlabel(literal(first.xlabel))
    if axes.get_legend_handles_labels()[1]:
        axes.legend()


def _curve(axes: Axes, curve: Curve, label: str, colour: str, style: str) -> None:
    y = [math.nan if value is None else value for value in curve.y]
    errors = None if curve.error is None else [error or 0.0 for error in curve.error]
    look: dict[str, Any] = {"color": colour, "ls": style, "lw": 1.3, "marker": "." if len(y) <= _FEW else ""}
    axes.errorbar(curve.x, y, errors, label=label or None, elinewidth=0.8, capsize=2, **look)
    for x, value, mark in zip(curve.x, y, curve.marks or (), strict=False):
        if math.isfinite(value):
            axes.annotate(literal(mark), (x, value), (3, 3), textcoords="offset points", fontsize=6, color=colour)


def _levels(plots: Mapping[str, Plot]) -> dict[str, list[float]]:
    """Return the distinct values of each level."""
    found: dict[str, list[float]] = {}
    for plot in plots.values():
        for label, value in plot.levels.items():
            if value is not None and value not in found.setdefault(label, []):
                found[label].append(value)
    return {label: values for label, values in found.items() if values}


def _level(axes: Axes, label: str, values: Sequence[float]) -> None:
    """Draw horizontal lines, and label the highest."""
    for value in values:
        axes.axhline(value, color="#999999", lw=0.8, ls=(0, (4, 3)))
    place = axes.get_yaxis_transform()
    axes.text(0.99, max(values), literal(label), transform=place, ha="right", va="bottom", fontsize=7, color="#555555")
