"""Data of a plot for several runs: an analysis returns it, and `hebm compare` draws all runs into one picture."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class Curve:
    """A curve of a plot: its points in order.

    Arguments:
        label: distinguishes the curves of one run; "" for a single curve.
        x: positions.
        y: values; None for unknown values.
        error: standard errors of the values, or None.
        marks: a short text for each point, or None.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    error: tuple[float | None, ...] | None = None
    marks: tuple[str, ...] | None = None


@attrs.frozen
class Plot:
    """A plot of one run's curves in one frame.

    Arguments:
        title: title of the plot; plots of several runs with the same title share a frame.
        xlabel: label of the x axis, with its unit.
        curves: curves of this run.
        levels: reference values by name, drawn as horizontal lines.
        conditions: settings by name that must be equal for plots of several runs to be comparable.
        log: whether x is logarithmic.
        timed: whether x is a measured time, which differs each time the analysis runs.
    """

    title: str
    xlabel: str
    curves: tuple[Curve, ...]
    levels: Mapping[str, float | None] = attrs.field(factory=dict)
    conditions: Mapping[str, str] = attrs.field(factory=dict)
    log: bool = False
    timed: bool = False
