"""`hebm detect`: score your own images by a trained run."""

from __future__ import annotations

from pathlib import Path

import click

from hebm.cli.options import run_argument, unfinished_option, warner


@click.command()
@run_argument
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
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
@unfinished_option
def command(
    run: Path,
    folder: Path,
    output: Path,
    seed: int,
    draws: int,
    batch_size: int,
    corrupt: str,
    device: str,
    allow_unfinished: bool,
) -> None:
    """Score the images in FOLDER, its sub-folders included, by the trained RUN: how like its training data they are.

    FOLDER may also be a .zip or .tar archive. A line for each file: its path in FOLDER; `total`, the log tilt f summed
    over all layers; and L>k, its sum over the layers above the k-th from the bottom. High is like the training data.
    Files are read as the run's data set reads its own (data.crop, data.size), and converted to the run's channels and
    size.
    """
    from hebm.analysis.section import write_csv
    from hebm.data.archives import open_files
    from hebm.data.image_files import FileImages
    from hebm.noise import whole_blocks
    from hebm.runs import open_run

    opened = open_run(run, allow_unfinished=allow_unfinished, warn=warner(True))
    shape = opened.stored.images.shape
    images = FileImages(
        open_files(folder, "FOLDER"), shape, opened.experiment.data.decoder(shape), skip=corrupt == "skip"
    )
    for problem in images.skipped:
        click.echo(f"note: {problem}", err=True)
    model = opened.model.to(device)
    scores = model.score(images, seed, draws, whole_blocks(batch_size)).above  # a batch size changes no score
    header = ("file", "total", *(f"L>{k}" for k in range(1, scores.shape[1])))
    write_csv(output, header, [(name, *row) for name, row in zip(images.names, scores.tolist(), strict=True)])
    click.echo(f"{len(images)} images in {output}")
