"""Measure how the cost of a sample grows with the steps of a chain, the chains of a batch, layers and stages.

python benchmarks/speed/sampling_slopes.py --json sampling_slopes.json

The models are variants of the sweeps with untrained weights, changed in one key at a time. A line is fitted to the CPU
time of a sample, and to that of a batch over the number of chains. `off the line` is the largest deviation of a point,
as a share of its own time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import linear_regression, median
from typing import NamedTuple

import attrs
import torch
from interleaved import Work, environment, take_turns, write
from sweep_models import model_of, runs_of, sampling

from hebm.config.experiment import Experiment
from hebm.report.numbers import percent, significant

SWEEPS = Path(__file__).parents[1] / "sweeps"
Values = tuple[int, ...]


class Axis(NamedTuple):
    """What is varied.

    Arguments:
        name: "steps", "chains", or a part of the model.
        values: its values.
        key: returns the key of the configuration for a value, as a `--set` text; None for "steps" and "chains".
    """

    name: str
    values: Values
    key: Callable[[int], str] | None = None


class Case(NamedTuple):
    """A variant of a sweep, and what is varied of it."""

    sweep: str
    variant: str
    axes: tuple[Axis, ...]


STAGES = Axis("stages", (1, 2, 3, 4), "prior.stages={}".format)
FEW = Axis("steps", (5, 10, 20, 40)), Axis("chains", (16, 32, 64, 128))
MANY = Axis("steps", (25, 50, 100, 200)), Axis("chains", (64, 128, 256, 512))
LAYERS = {
    "two-layer": Axis("layers", (1, 2, 4, 8), lambda n: f"backbone.z_dims={[32] * n}"),
    "hvae": Axis("layers", (2, 3, 4, 6), "backbone.layers={}".format),
    "nvae-tiny": Axis("groups a scale", (1, 2, 3, 4), "backbone.groups={}".format),
}
CASES = {
    "two-layer": Case("priors-mnist", "one-stage", (*MANY, LAYERS["two-layer"], STAGES)),
    "hvae": Case("hvae-mnist", "image-contrast", (*FEW, LAYERS["hvae"], STAGES)),
    "nvae-tiny": Case("nvae-tiny-mnist", "image-contrast", (*FEW, LAYERS["nvae-tiny"], STAGES)),
}


class Slope(NamedTuple):
    """How the cost of a sample depends on one number.

    Arguments:
        case, axis: names of the model and of the number.
        values: values of the number.
        milliseconds: CPU time of a sample for each.
        added: CPU milliseconds that each further unit adds to a sample; for chains, to a batch.
        off: the largest deviation from the line, as a share of a point's own time.
    """

    case: str
    axis: str
    values: Values
    milliseconds: tuple[float, ...]
    added: float
    off: float


def slope(case: str, axis: Axis, chains: int, repeats: int) -> Slope:
    """Time samples for every value of an axis in turn, and fit a line."""
    run = runs_of(SWEEPS / f"{CASES[case].sweep}.toml")[CASES[case].variant][0]
    counts = axis.values if axis.name == "chains" else (chains,) * len(axis.values)

    def changed(value: int) -> Experiment:
        keys = [] if axis.key is None else [axis.key(value)]
        return Experiment.load(run.base, [*run.overrides, *keys])

    works = {str(v): _work(changed(v), axis, v, n) for v, n in zip(axis.values, counts, strict=True)}
    seconds = [median(found) for found in take_turns(works, repeats).values()]
    each = tuple(1e3 * total / n for total, n in zip(seconds, counts, strict=True))
    fitted = tuple(1e3 * total for total in seconds) if axis.name == "chains" else each
    line = linear_regression(axis.values, fitted)
    off = max(abs(line.intercept + line.slope * v - y) / y for v, y in zip(axis.values, fitted, strict=True))
    return Slope(case, axis.name, axis.values, each, line.slope, off)


def _work(experiment: Experiment, axis: Axis, value: int, chains: int) -> Work:
    model = model_of(experiment)
    if axis.name == "steps":
        model = model.changed(request=attrs.evolve(model.request, steps=value))
    return sampling(model, chains)


def table(slopes: Sequence[Slope]) -> str:
    """Return the table in Markdown."""
    lines = [
        "| backbone, prior | number | ms a sample | added by one more, ms | off the line |",
        "|---|---|---|---|---|",
    ]
    for found in slopes:
        cells = [
            f"`{found.case}`, `{CASES[found.case].variant}`",
            f"{found.axis} {' / '.join(map(str, found.values))}",
            " / ".join(map(significant, found.milliseconds)),
            f"{significant(found.added)}{' (a batch)' if found.axis == 'chains' else ''}",
            percent(found.off),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print what the command line selects."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--axes", nargs="+", help="names of the numbers to vary; by default all")
    parser.add_argument("--batch", type=int, default=64, help="chains of a batch, unless they are varied")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5, help="number of timings of each value")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    chosen = [(case, axis) for case in given.cases for axis in CASES[case].axes]
    chosen = [(case, axis) for case, axis in chosen if given.axes is None or axis.name in given.axes]
    slopes = [slope(case, axis, given.batch, given.repeats) for case, axis in chosen]
    print(", ".join(f"{key} {value}" for key, value in environment().items()), table(slopes), sep="\n\n")
    shown = [found._asdict() for found in slopes]
    write(given.json, [{**environment(), "batch": given.batch, "repeats": given.repeats, "slopes": shown}])


if __name__ == "__main__":
    main()
