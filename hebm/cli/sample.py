"""`hebm sample`: draw images from a trained run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from hebm.cli.importing import importing
from hebm.cli.interruption import going_on
from hebm.cli.launch import launched, one_voice
from hebm.cli.options import (
    PerLayer,
    UserPath,
    batch_size_option,
    force_option,
    processes_option,
    run_argument,
    unfinished_option,
    warner,
)

if TYPE_CHECKING:
    from torch import Tensor

    from hebm.adaptation import Adaptation
    from hebm.evaluation.shares import Processes
    from hebm.outputs.draws import Draws
    from hebm.runs import Run


@click.command()
@run_argument
@click.option("-n", "--number", type=click.IntRange(min=1), default=64, show_default=True, help="Number of images.")
@click.option(
    "-o",
    "--output",
    type=UserPath(),
    required=True,
    help="A folder for PNGs, or FILE.npz, FILE.npy, or GRID.png for one picture of all images.",
)
@click.option("--columns", type=click.IntRange(min=1), default=8, show_default=True, help="Images per row of GRID.png.")
@force_option
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of the draws; sample i depends only on the seed and i.",
)
@click.option(
    "--label",
    "labels",
    metavar="CLASS",
    multiple=True,
    help="Draw images of this class, by name or by number from 0. Repeat to draw from several classes in turn.",
)
@click.option(
    "--attributes",
    metavar="NAMES",
    help='Draw images with these attributes, such as "male,smiling,-eyeglasses", where - means without.',
)
@click.option("--after", help="Stop after this transition of the prior, such as 'stage 1' or 'level 2'.")
@click.option(
    "--steps",
    type=click.IntRange(min=0),
    help="Length of the chains, in place of the prior's setting; with 0, chains stay at their starting points.",
)
@click.option(
    "--start-proposals",
    type=click.IntRange(min=1),
    help="Number of proposals for each chain's start, in place of the prior's setting.",
)
@click.option(
    "--decode",
    type=click.Choice(("mean", "sample")),
    default="mean",
    show_default=True,
    help="mean: E[x|z]; sample: a draw from p(x|z).",
)
@click.option(
    "--temperature",
    type=PerLayer(),
    default="1.0",
    show_default=True,
    help="Factor that multiplies the drawn u, or one factor for each layer, top first, such as 1,0.8,0.8.",
)
@batch_size_option
@click.option(
    "--device",
    type=click.Choice(("auto", "cpu", "cuda", "mps")),
    default="cpu",
    show_default=True,
    help="Device of the computation.",
)
@processes_option
@unfinished_option
@one_voice()
def command(
    run: Path,
    number: int,
    output: Path,
    columns: int,
    force: bool,
    seed: int,
    labels: tuple[str, ...],
    attributes: str | None,
    after: str | None,
    steps: int | None,
    start_proposals: int | None,
    decode: str,
    temperature: float | tuple[float, ...],
    batch_size: int | None,
    device: Literal["auto", "cpu", "cuda", "mps"],
    processes: int,
    allow_unfinished: bool,
) -> None:
    """Draw images from the trained RUN. Image i does not depend on the number of processes.

    In a folder, the images are 000000.png, …. FILE.npy holds them as one array, uint8 (N, H, W, C). FILE.npz holds this
    array as `images` and, if classes or attributes are given, `labels` with their names in `classes` or `attributes`.

    Each batch is written immediately. After an interruption, the same command resumes where it stopped, with the same
    result. An existing output, or an unfinished one from other options, is replaced only with --force.
    """
    if launched(processes):
        return
    with importing():
        from hebm import pipeline
    from hebm.config.settings import RunSettings
    from hebm.outputs.draws import Draws
    from hebm.runs import open_run

    accelerator = pipeline.make_accelerator(RunSettings(device=device))
    share = pipeline.make_processes(accelerator)
    opened = open_run(run, allow_unfinished=allow_unfinished, warn=warner(accelerator.is_main_process))
    model = opened.model.to(accelerator.device)
    rows = share.agreed(batch_size or model.default_batch_size, accelerator.device)
    how = (seed, labels, attributes, after, steps, start_proposals, decode, temperature)
    _draw(opened, Draws(number, *how, batch_size=rows), output, columns, force, share)


def _draw(opened: Run, draws: Draws, output: Path, columns: int, force: bool, share: Processes) -> None:
    from hebm.outputs.draws import draw_into
    from hebm.outputs.identity import identified
    from hebm.outputs.image_outputs import image_writer
    from hebm.outputs.resumable import Resumable
    from hebm.progress import Progress

    main, images, model = share.rank == 0, opened.stored.images, opened.model
    draws.check(model)
    writer = image_writer(output, draws.drawn(images), columns)
    means, progress = Means(), Progress(quiet=not main, task="sample")
    with ExitStack() as held:
        target = None
        if main:
            settings = {**draws.settings(), **identified(model, opened.stored.identity)}
            target = held.enter_context(Resumable(writer, settings, force))
        held.enter_context(going_on(target, draws.number, "images"))
        held.callback(progress.ended)
        draw_into(target, draws, model, images.shape, share, progress, means.add)
    if main:
        for line in _how(means, model.adaptations):
            click.echo(line)
        click.echo(f"{draws.number} images in {output}")


class Means:
    """The mean of each diagnostic over the drawn images."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, int]] = {}

    def add(self, diagnostics: Mapping[str, Tensor]) -> None:
        """Add the diagnostics of a batch, `(B,)` each."""
        for name, values in diagnostics.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = total + float(values.double().sum()), count + len(values)


def _how(means: Means, adaptations: Mapping[str, Adaptation]) -> Iterator[str]:
    """Yield a line for each diagnostic of the draws and for each chain with an adapted step size."""
    from hebm.report.numbers import percent, significant

    for name, (total, count) in means.sums.items():
        yield f"{name.replace('_', ' ')}: {significant(total / count)} (mean of {count})"
    for name, (h, acceptance) in adaptations.items():
        yield f"{name}: step size {significant(h)}, adapted, acceptance {percent(acceptance)}"
