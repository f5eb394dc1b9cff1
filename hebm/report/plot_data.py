"""What the report shows of a trained model, as plain numbers next to the images: the page is drawn from these alone."""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from hebm.store.durable import reporting
from hebm.store.json_shapes import damaged, read_json, shaped
from hebm.store.own_sums import require_own_sum, without_sum, write_summed

FILE = "plots.json"
"""Its name in the run's folder of samples."""

BY_CLASS = "classes"
"""Name of the grid of draws by class."""

Numbers = list[float | None]
"""None stands for what is not finite."""


@attrs.frozen
class Band:
    """A quantity along the chains: its mean, 10 % and 90 % quantile over the finite ones, after each of `steps`."""

    steps: list[int]
    mean: Numbers
    low: Numbers
    high: Numbers


@attrs.frozen
class ChainData:
    """The short-run chain of the learned prior.

    Arguments:
        length: transitions in all.
        chains: how many the bands are taken over.
        nonfinite: how many of them ended with a NaN or an infinity.
        log_density: what the sampler climbs, up to a constant.
        grad_norm: norm of its gradient in u, or None for samplers that use none.
        f: the log tilt, or None for a prior that has none.
        frames: steps of the strip's columns.
        acceptance: mean rate, or None for unadjusted samplers.
    """

    length: int
    chains: int
    nonfinite: int
    log_density: Band
    grad_norm: Band | None
    f: Band | None
    frames: list[int]
    acceptance: float | None = None


@attrs.frozen
class Shown:
    """A grid of images that a metric shows.

    Arguments:
        file: its name in the folder of samples.
        title: what it shows.
        caption: how to read it.
    """

    file: str
    title: str
    caption: str


@attrs.frozen
class Plots:
    """All that the report draws besides metrics and training curves.

    Arguments:
        images: file names of grids by kind (`hebm.evaluation.kinds`), of "chain" and of "classes".
        chain: None for a prior that runs no chain.
        tilts: f of draws by kind; empty for a prior without a tilt.
        single_layers: how many layers have an energy that sees nothing else (`hebm.single_layer_energies`); 0 if other
            energies, or none, make up the prior.
        classes: the class of each row of the grid "classes"; empty for a prior that is not trained with labels.
        shown: what metrics show.
    """

    images: dict[str, str]
    chain: ChainData | None = None
    tilts: dict[str, Numbers] = attrs.field(factory=dict)
    single_layers: int = 0
    classes: tuple[str, ...] = ()
    shown: tuple[Shown, ...] = ()

    def write(self, samples: Path) -> None:
        """Write `plots.json` into the folder of samples. Raises `CheckpointError`."""
        write_summed(samples / FILE, attrs.asdict(self))


def read_plots(samples: Path) -> Plots | None:
    """Read the plots in a run's folder of samples, None before there are any.

    Raises `CheckpointError` with path and key for a file of another shape.
    """
    path, fix = samples / FILE, "make it again with hebm evaluate"
    with reporting(f"read {path}"):
        if not os.path.lexists(path):
            return None
    read = read_json(path, fix)
    with damaged(path, fix):
        plots: Plots = shaped(Plots, without_sum(read))
        require_own_sum(read)
    return plots
