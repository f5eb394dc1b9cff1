"""The numbers and file names from which a run's page draws plots and grids, stored next to the images."""

from __future__ import annotations

import os
from pathlib import Path

import attrs

from hebm.store.durable import reporting
from hebm.store.json_shapes import damaged, read_json, shaped
from hebm.store.own_sums import require_own_sum, without_sum, write_summed

FILE = "plots.json"
"""Name of the file in the run's folder of samples."""

BY_CLASS = "classes"
"""Name of the grid of draws by class."""

Numbers = list[float | None]
"""None stands for a value that is not finite."""


@attrs.frozen
class Band:
    """A quantity along the chains: mean, 10 % and 90 % quantile over finite values, after each of `steps`."""

    steps: list[int]
    mean: Numbers
    low: Numbers
    high: Numbers


@attrs.frozen
class ChainData:
    """The short-run chain of the learned prior.

    Arguments:
        length: total number of steps.
        chains: number of chains.
        nonfinite: number of chains that ended with a NaN or an infinity.
        log_density: the sampler's target log density, up to a constant.
        grad_norm: norm of its gradient in u; None for samplers without gradients.
        f: the log tilt; None for a prior without one.
        frames: steps of the strip's columns.
        acceptance: mean acceptance rate; None for unadjusted samplers.
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
        file: file name in the folder of samples.
        title: title of the grid.
        caption: explanation of how to read it.
    """

    file: str
    title: str
    caption: str


@attrs.frozen
class Plots:
    """The data of the report besides metrics and training curves.

    Arguments:
        images: file names of grids by kind (`hebm.evaluation.kinds`), of "chain" and of "classes".
        chain: the chain; None for a prior without chains.
        tilts: f of draws by kind; empty for a prior without a tilt.
        single_layers: number of layers if each energy sees one layer only (`hebm.single_layer_energies`), or else 0.
        classes: the class of each row of the grid "classes"; empty for a prior that is not trained with labels.
        shown: grids that metrics show.
    """

    images: dict[str, str]
    chain: ChainData | None = None
    tilts: dict[str, Numbers] = attrs.field(factory=dict)
    single_layers: int = 0
    classes: tuple[str, ...] = ()
    shown: tuple[Shown, ...] = ()

    def write(self, samples: Path) -> None:
        """Write `plots.json` into the folder of samples. Raises `CheckpointError` if it cannot be written."""
        write_summed(samples / FILE, attrs.asdict(self))


def read_plots(samples: Path) -> Plots | None:
    """Read the plots in a run's folder of samples; None if they do not exist yet.

    Raises `CheckpointError` with path and key if the file is malformed.
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
