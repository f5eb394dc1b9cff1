"""Draw the picture of a comparison: samples, bars of all results, and the plots that runs share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from hebm.analysis.compared_plot import Curve, Plot
from hebm.evaluation.kinds import DATA, KINDS, PRIOR
from hebm.evaluation.metric import SHARE, Measurement
from hebm.report.compared_plots import by_title, draw_plot
from hebm.report.comparison import Run, columns
from hebm.report.curves import phase_losses
from hebm.report.metric_table import Group, label
from hebm.report.numbers import measured
from hebm.report.panels import STYLE, literal
from hebm.report.pictures import read_picture
from hebm.store.metrics import MetricsLog

_ACROSS = 5
_BARS_ACROSS = 3
_SHORTEST_BARS = 1.6
_PLOT = 3.4
_LOSSES_ACROSS = 2


def picture(runs: Sequence[Run]) -> Figure:
    """Draw samples, bars and plots of several runs.

    The samples start with the first run's data. Bars show results of learned priors. Plots of analyses have the curves
    of every run that has them. The last plots show the loss of each phase of training.
    """
    grids = [
        (KINDS[DATA].title, _grid(runs[0], DATA)),
        *((run.name, _grid(run, PRIOR)) for run in runs if not run.evaluation),
    ]
    across, bars, plots = min(_ACROSS, len(grids)), _bar_groups(runs), _plots(runs)
    losses = by_title({run.name: _losses(run) for run in runs})
    down, rows_of_bars = -(-len(grids) // across), -(-len(bars) // _BARS_ACROSS)
    height = max(_SHORTEST_BARS, 0.32 * len(runs) * max(map(len, bars), default=1) ** 0.5 + 0.8) * rows_of_bars
    heights = [2.5 * down, *([height] if bars else []), *([_PLOT] * len(plots))]
    heights += [_PLOT * -(-len(losses) // _LOSSES_ACROSS)] if losses else []
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.3 * max(across, 3), sum(heights)), layout="constrained")
        parts: Any = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        for i, axes in enumerate(parts[0].subplots(down, across, squeeze=False).flat):
            _show(axes, *grids[i]) if i < len(grids) else axes.set_axis_off()
        if bars:
            _all_bars(parts[1], bars, rows_of_bars, runs)
        for part, shared in zip(parts[1 + bool(bars) :], plots.values(), strict=False):
            draw_plot(part.subplots(), shared)
        if losses:
            _all_losses(parts[-1], losses)
    return figure


def _plots(runs: Sequence[Run]) -> dict[str, dict[str, Plot]]:
    return by_title({run.name: run.plots for run in runs})


def _losses(run: Run) -> list[Plot]:
    """Return one loss plot per phase that the run trained."""
    if run.evaluation:  # the row of the run itself has them
        return []
    found = phase_losses(MetricsLog(run.folder.metrics_log).read())
    return [
        Plot(f"training loss, phase {phase}", "step", (Curve("", tuple(steps), tuple(values)),))
        for phase, (steps, values) in found.items()
    ]


def _all_losses(part: Any, losses: dict[str, dict[str, Plot]]) -> None:
    down = -(-len(losses) // _LOSSES_ACROSS)
    every = list(part.subplots(down, min(_LOSSES_ACROSS, len(losses)), squeeze=False).flat)
    for axes in every[len(losses) :]:
        axes.set_axis_off()
    for axes, shared in zip(every, losses.values(), strict=False):
        draw_plot(axes, shared)


def _bar_groups(runs: Sequence[Run]) -> list[list[Measurement]]:
    """Return the columns of each result that includes learned priors, by extractor, in the order of kinds."""
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
    """Draw bars of one result: a row per run and a bar per kind, with known standard errors."""
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
