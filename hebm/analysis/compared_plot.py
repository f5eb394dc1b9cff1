"""A plot that runs have in common: an analysis returns the data, and `hebm compare` draws the runs into one picture."""

from __future__ import annotations

from collections.abc import Mapping

import attrs


@attrs.frozen
class Curve:
    """Points of a plot, in order.

    Arguments:
        label: tells the curves of one run apart; "" where there is one alone.
        x: positions.
        y: values; None where a value is not known.
        error: standard errors of the values, or None for none.
        marks: a short text at each point, or None for none.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    error: tuple[float | None, ...] | None = None
    marks: tuple[str, ...] | None = None


@attrs.frozen
class Plot:
    """Curves in one frame.

    Arguments:
        title: what is shown; runs whose plots have one title share a frame.
        xlabel: of the axis, with its unit.
        curves: of this run.
        levels: values to compare with, by name, drawn as level lines.
        conditions: what must be equal for plots of several runs to be comparable, by name.
        log: whether x is logarithmic.
        timed: whether x is a time, which differs when the analysis is run again.
    """

    title: str
    xlabel: str
    curves: tuple[Curve, ...]
    levels: Mapping[str, float | None] = attrs.field(factory=dict)
    conditions: Mapping[str, str] = attrs.field(factory=dict)
    log: bool = False
    timed: bool = False
