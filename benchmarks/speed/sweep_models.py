"""Build the models of a sweep's variants with untrained weights, to time their draws.

The cost of a draw depends on the nets and on the number of steps, not on the weights.
"""

from __future__ import annotations

from pathlib import Path

from interleaved import Work

from hebm import registry
from hebm.building import build
from hebm.config.experiment import Experiment
from hebm.config.sweep_file import Sweep
from hebm.interfaces import ImageSpec
from hebm.sweeps.planning import PlannedRun, plan
from hebm.trained import TrainedModel
from hebm_plugins.priors.multi_stage.prior import MultiStagePrior

SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "fashion-mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
"""(C, H, W) of the data sets, which need not be on this machine."""


def runs_of(file: Path) -> dict[str, list[PlannedRun]]:
    """Return the runs of each variant of a sweep file, by seed."""
    found: dict[str, list[PlannedRun]] = {}
    for run in plan(Sweep.load(file)):
        found.setdefault(run.variant, []).append(run)
    return found


def model_of(experiment: Experiment) -> TrainedModel:
    """Build a model whose stages all count as trained. Its draws are those of the experiment's evaluation.

    Raises `KeyError` for a data set that is not in `SHAPES`.
    """
    data, settings = experiment.data, experiment.evaluate
    images = ImageSpec(*SHAPES[registry.name_of(data)], binary=data.binarize != "off")
    model = build(experiment, images)
    if isinstance(model.prior, MultiStagePrior):
        model.prior.trained_stages = len(model.prior.ratios)
    drawn = TrainedModel(model.backbone, model.prior, seed=experiment.seed, request=settings.request)
    _ = drawn.path  # step sizes are adapted before any time is measured
    return drawn


def sampling(model: TrainedModel, n: int, root: bool = False) -> Work:
    """Return a function that draws and decodes n samples as one batch.

    Arguments:
        model: the model.
        n: number of samples.
        root: draw from the Gaussian prior instead of the learned one.
    """
    model = model.changed(rows=n)
    draw, noise = model.draw_root if root else model.draw, model.noise("speed")
    return lambda: model.images(draw(n, noise))
