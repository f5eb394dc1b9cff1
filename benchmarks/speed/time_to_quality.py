"""Compare priors by time to quality: gap closed against seconds of training, and against milliseconds a sample.

python benchmarks/speed/time_to_quality.py --update benchmarks/RESULTS.md --plot benchmarks/images/time-to-quality.png

Quality and training time are read from the measurements of sweeps, `NAME.measurements` next to `NAME.toml`. The time of
a sample is measured here: every variant is built with untrained weights, and draws and decodes batches in turn with the
others. Variants and seeds without measurements are named and left out.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from interleaved import environment, take_turns, write
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, PercentFormatter
from matplotlib.transforms import Bbox
from sweep_models import model_of, runs_of, sampling

from hebm.config.experiment import Experiment
from hebm.evaluation.kinds import PRIOR, SCALED_GAUSSIAN
from hebm.evaluation.metric import SHARE
from hebm.report.measured_rows import ENDING, Row, read_rows
from hebm.report.numbers import significant, with_deviation
from hebm.sweeps.planning import PlannedRun

SWEEPS = Path(__file__).parents[1] / "sweeps"
NAMES = ("priors-mnist", "hvae-mnist", "nvae-tiny-mnist")
CONTROL = "Gaussian at its best temperature"
START, END = "<!-- time to quality: start -->", "<!-- time to quality: end -->"


_PLACES = [((6, 5), "left"), ((-6, 5), "right"), ((6, -11), "left"), ((-6, -11), "right")]
_PLACES += [((0, 14), "center"), ((0, -20), "center")]
"""Offsets of a label from its point, and the side of the label that is aligned there."""


class Gap(NamedTuple):
    """A share of the gap, with its standard deviation over seeds, or the standard error of one seed."""

    value: float
    deviation: float | None


class Point(NamedTuple):
    """The quality and the cost of a prior.

    Arguments:
        prior: name of the variant.
        seeds: number of measured seeds.
        seconds: seconds of training of each seed; () for the control.
        milliseconds: CPU time of one sample.
        gaps: the share of the gap that it closes, by extractor.
    """

    prior: str
    seeds: int
    seconds: tuple[float, ...]
    milliseconds: float
    gaps: dict[str, Gap]

    @property
    def training(self) -> float | None:
        """Return the seconds of the seed that trained fastest, with the least other load; None for the control."""
        return min(self.seconds, default=None)


class Compared(NamedTuple):
    """The priors of one sweep, the control last, and what is missing."""

    sweep: str
    backbone: str
    points: list[Point]
    missing: list[str]


# ---------------------------------------------------------------- measurements


def measured(file: Path, batch: int, repeats: int) -> Compared:
    """Read the measurements of a sweep, and time a sample of each measured variant."""
    runs, folder = runs_of(file), file.with_suffix(ENDING)
    rows = {row.name.removeprefix(f"{file.stem}-"): row for row in (read_rows(folder) if folder.is_dir() else ())}
    found = {name: rows[name] for name, some in runs.items() if name in rows and _fits(rows[name], some[0])}
    missing = _missing(runs, rows, found)
    learned = [name for name, row in found.items() if row.facts["prior"] != "gaussian"]
    if not learned:
        return Compared(file.stem, "", [], missing)
    models = {name: model_of(runs[name][0].experiment) for name in learned}
    work = {name: sampling(model, batch) for name, model in models.items()}
    work[CONTROL] = sampling(models[learned[0]], batch, root=True)
    times = {name: 1e3 * statistics.median(some) for name, some in take_turns(work, repeats, batch).items()}
    points = [_point(name, found[name], times[name], PRIOR) for name in learned]
    most = max((found[name] for name in learned), key=lambda row: len(row.seeds))
    control = _point(CONTROL, most, times[CONTROL], SCALED_GAUSSIAN)._replace(seconds=())
    return Compared(file.stem, most.facts["backbone"], [*_sorted(points), control], missing)


def _fits(row: Row, run: PlannedRun) -> bool:
    """Return whether a row was measured with the sweep's own backbone and prior."""
    tables = {key: row.configuration[key] for key in ("data", "backbone", "prior")}
    then, now = Experiment.from_table(tables), run.experiment
    return (then.backbone, then.prior) == (now.backbone, now.prior)


def _missing(runs: dict[str, list[PlannedRun]], rows: dict[str, Row], fitting: dict[str, Row]) -> list[str]:
    """Return one line for each variant with seeds that are not measured, or that has other settings now."""
    found = []
    for name, some in runs.items():
        lacking = [str(run.seed) for run in some if name not in rows or run.seed not in rows[name].seeds]
        if lacking:
            found.append(f"{name}, seed {', '.join(lacking)}")
        elif name not in fitting:
            found.append(f"{name}, whose settings have changed since")
    return found


def _point(name: str, row: Row, milliseconds: float, kind: str) -> Point:
    seconds = tuple(value for value in row.seconds["prior"] if value is not None)
    gaps = {}
    for figure in row.figures:
        found = figure.measurement
        if (found.name, found.kind) == ("gap-closed", kind) and found.value is not None:
            gaps[found.extractor] = Gap(found.value, figure.sd if len(row.seeds) > 1 else figure.errors[0])
    return Point(name, len(row.seeds), seconds, milliseconds, gaps)


def _sorted(points: Sequence[Point]) -> list[Point]:
    """Sort by the share of the first extractor, the largest first."""
    return sorted(points, key=lambda point: -next(iter(point.gaps.values())).value)


# ---------------------------------------------------------------- table


def table(compared: Compared) -> str:
    """Return a sweep's table in Markdown, with a line for what is missing."""
    lines = []
    if compared.points:
        extractors = list(compared.points[0].gaps)
        head = ["prior", "seeds", "training, s", "ms a sample", *(f"gap closed, `{name}`" for name in extractors)]
        head += ["points a second of training", "points a ms of sampling"]
        lines = [f"`{compared.backbone}` (`sweeps/{compared.sweep}.toml`):", ""]
        lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        lines += [f"| {' | '.join(_cells(point, extractors))} |" for point in compared.points]
    if compared.missing:
        lines += [*([""] if lines else []), f"(Not measured in `{compared.sweep}`: {'; '.join(compared.missing)}.)"]
    return "\n".join(lines)


def _cells(point: Point, extractors: Sequence[str]) -> list[str]:
    gaps = [point.gaps.get(name, Gap(float("nan"), None)) for name in extractors]
    points, training = 100 * gaps[0].value, point.training
    return [
        point.prior if training is None else f"`{point.prior}`",
        str(point.seeds),
        _seconds(point),
        significant(point.milliseconds),
        *(with_deviation(*gap, SHARE) for gap in gaps),
        "" if training is None else significant(points / training, 2),
        "" if training is None else significant(points / point.milliseconds, 2),
    ]


def _seconds(point: Point) -> str:
    """Return the seconds of the fastest seed and, over several seeds, of the slowest one."""
    if point.training is None:
        return ""
    shown, most = significant(point.training), max(point.seconds)
    return shown if len(point.seconds) == 1 else f"{shown} (to {significant(most)})"


def update(path: Path, text: str) -> None:
    """Replace what is between the two marks in a Markdown file. Raises `ValueError` if it lacks a mark."""
    before, _, rest = path.read_text().partition(START)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"{path} lacks the lines {START} and {END}")
    path.write_text(f"{before}{START}\n\n{text}\n\n{END}{after}")


# ---------------------------------------------------------------- plot


def plot(every: Sequence[Compared], path: Path) -> None:
    """Draw gap closed against both costs, one row per sweep."""
    canvas = Canvas(figsize=(11, 3.6 * len(every)), layout="constrained")
    panels = canvas.subplots(len(every), 2, squeeze=False)
    for (left, right), compared in zip(panels, every, strict=True):
        *learned, control = compared.points
        extractor = next(iter(control.gaps))
        _draw(left, learned, [point.training or 0 for point in learned], extractor, control)
        _draw(right, compared.points, [point.milliseconds for point in compared.points], extractor, control)
        left.set(xlabel="seconds of training", ylabel=f"{compared.backbone}: gap closed, {extractor}")
        right.set(xlabel="CPU milliseconds a sample")
    canvas.draw_without_rendering()  # fixes the layout, on which the places of labels depend
    for axes, compared in ((axes, compared) for pair, compared in zip(panels, every, strict=True) for axes in pair):
        _label(axes, [point.prior for point in compared.points])
    canvas.savefig(path, dpi=90)


def _draw(axes: Axes, points: Sequence[Point], x: Sequence[float], extractor: str, control: Point) -> None:
    for i, (at, point) in enumerate(zip(x, points, strict=True)):
        value, deviation = point.gaps[extractor]
        axes.errorbar(at, value, deviation or 0, fmt="o", color=f"C{i}", capsize=3)
    axes.axhline(control.gaps[extractor].value, color="grey", linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.margins(x=0.3, y=0.15)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(FuncFormatter(lambda x, _: f"{x:g}" if f"{x:.0e}"[0] in "25" else ""))
    axes.tick_params(which="minor", labelsize=7)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(alpha=0.3)


def _label(axes: Axes, names: Sequence[str]) -> None:
    """Write the name of each point next to it, where it covers neither another name nor a point if possible."""
    points = [bar.lines[0] for bar in axes.containers]
    taken = [point.get_window_extent().padded(3) for point in points]
    for point, name in zip(points, names, strict=False):
        at, colour = point.get_xydata()[0], point.get_color()
        text = axes.annotate(name, at, (0, 0), textcoords="offset points", fontsize=8, color=colour)
        taken.append(_placed(text, axes, taken))


def _placed(text: Annotation, axes: Axes, taken: Sequence[Bbox]) -> Bbox:
    """Move a text to its first free place, or else its last one, and return its box."""
    for place, side in _PLACES:
        text.set(position=place, horizontalalignment=side)
        box = text.get_window_extent()
        if axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1 and not box.count_overlaps(taken):
            break
    return box


# ---------------------------------------------------------------- command line


def as_json(every: Sequence[Compared], batch: int, repeats: int) -> dict[str, Any]:
    """Return environment and points as data."""
    sweeps = [one._asdict() | {"points": [_entry(point) for point in one.points]} for one in every]
    return {**environment(), "batch": batch, "repeats": repeats, "sweeps": sweeps}


def _entry(point: Point) -> dict[str, Any]:
    gaps = {extractor: gap._asdict() for extractor, gap in point.gaps.items()}
    return {**point._asdict(), "training": point.training, "gaps": gaps}


def main() -> None:
    """Measure and print what the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweeps", nargs="*", type=Path, default=[SWEEPS / f"{name}.toml" for name in NAMES])
    parser.add_argument("--batch", type=int, default=128, help="samples that are drawn together")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5, help="number of timings of each variant")
    parser.add_argument("--update", type=Path, help="replace the tables in this Markdown file")
    parser.add_argument("--plot", type=Path, help="draw the plot into this file")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    every = [measured(file, given.batch, given.repeats) for file in given.sweeps]
    text = "\n\n".join(map(table, every))
    print(", ".join(f"{key} {value}" for key, value in environment().items()), text, sep="\n\n")
    if given.update is not None:
        update(given.update, text)
    if given.plot is not None:
        plot([compared for compared in every if compared.points], given.plot)
    write(given.json, [as_json(every, given.batch, given.repeats)])


if __name__ == "__main__":
    main()
