"""`hebm detect`: score your own images by a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hebm.cli.options import run_argument, warner

if TYPE_CHECKING:
    from torch import Tensor

    from hebm.data.images import Images
    from hebm.evaluate.scores import Scorer
    from hebm.runs import Run


@click.command()
@run_argument
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The CSV to write."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the posterior's draws.")
@click.option("--draws", type=click.IntRange(min=1), default=1, show_default=True, help="Draws a score is the mean of.")
@click.option("--batch-size", type=click.IntRange(min=1), default=512, show_default=True, help="Images at a time.")
@click.option(
    "--corrupt",
    type=click.Choice(("stop", "skip")),
    default="stop",
    show_default=True,
    help="What to do with files that are not images.",
)
@click.option(
    "--device",
    type=click.Choice(("cpu", "cuda", "mps")),
    default="cpu",
    show_default=True,
    help="Where to compute.",
)
def command(
    run: Path, folder: Path, output: Path, seed: int, draws: int, batch_size: int, corrupt: str, device: str
) -> None:
    """Score the images in FOLDER, its sub-folders included, by the trained RUN: how like its training data they are.

    A line for each file: its path in FOLDER; `total`, the log tilt f summed over all layers; and L>k, its sum over the
    layers above the k-th from the bottom. High is like the training data. Files are read as the run's data set reads
    its own (data.crop, data.size), and converted to the run's channels and size.
    """
    from hebm.analyse.section import write_csv
    from hebm.data.image_files import FileImages
    from hebm.runs import open_run

    opened = open_run(run, warn=warner(True))
    shape = opened.images.shape
    images = FileImages(folder, shape, opened.experiment.data.decoder(shape), skip=corrupt == "skip")
    for problem in images.skipped:
        click.echo(f"note: {problem}", err=True)
    scores = _scores(opened, images, seed, draws, batch_size, device)
    header = ("file", "total", *(f"L>{k}" for k in range(1, scores.shape[1])))
    write_csv(output, header, [(name, *row) for name, row in zip(images.names, scores.tolist(), strict=True)])
    click.echo(f"{len(images)} images in {output}")


def _scores(run: Run, images: Images, seed: int, draws: int, batch_size: int, device: str) -> Tensor:
    """Return s_k of each image, `(N, E)`."""
    import torch

    from hebm.data.batches import Batches
    from hebm.evaluate.scores import finite_scores
    from hebm.model import DTYPES
    from hebm.noise import Noise, whole_blocks

    experiment = run.experiment
    dtype = DTYPES[experiment.run.dtype]
    scorer = _scorer(run, draws, device)
    batches = Batches(images, experiment.data, seed, training=False, device=device, dtype=dtype)
    noise = Noise(seed, "detect", device=device, dtype=dtype)
    size = whole_blocks(batch_size)  # a batch size changes no score
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), size):
            batch = batches.in_order(start, min(size, len(images) - start))
            parts.append(scorer.scores(batch, noise.at(start)).double().cpu())
    return finite_scores(torch.cat(parts), str(images))


def _scorer(run: Run, draws: int, device: str) -> Scorer:
    """Build the run's model in eval mode. Raises `ConfigError` for a prior without a tilt."""
    from hebm.errors import ConfigError
    from hebm.evaluate.scores import Scorer
    from hebm.trained import TrainedModel

    loaded = run.model(device)
    model = TrainedModel(loaded.backbone, loaded.prior, run.experiment.train)
    if model.tilt is None:
        raise ConfigError(f"{run.folder.path}: its prior has no tilt to score by; give a run with a learned prior")
    return Scorer(model, draws)
