"""`hebm sample`: images from a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from hebm.cli.launch import launched, one_voice
from hebm.cli.options import processes_option, run_argument, unfinished_option, warner

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from hebm.adaptation import Adaptation


@click.command()
@run_argument
@click.option("-n", "--number", type=click.IntRange(min=1), default=64, show_default=True, help="How many images.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A folder for PNGs, or FILE.npz.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Sample i depends on it and i.")
@click.option("--label", metavar="CLASS", help="All images of this class: its name, or its number from 0.")
@click.option(
    "--attributes", metavar="NAMES", help='All images with these, as in "male,smiling,-eyeglasses": - is without.'
)
@click.option("--after", help="Stop after this transition of the prior, such as 'stage 1' or 'level 2'.")
@click.option(
    "--steps", type=click.IntRange(min=0), help="Length of the chains, instead of the prior's own; 0: where they start."
)
@click.option(
    "--start-proposals",
    type=click.IntRange(min=1),
    help="Draws that each chain's start is chosen among, instead of the prior's own.",
)
@click.option(
    "--decode", type=click.Choice(("mean", "sample")), default="mean", show_default=True, help="E[x|z] or a draw."
)
@click.option(
    "--temperature", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Scales the prior's u."
)
@click.option("--batch-size", type=click.IntRange(min=1), default=512, show_default=True, help="Images at a time.")
@click.option(
    "--device",
    type=click.Choice(("auto", "cpu", "cuda", "mps")),
    default="cpu",
    show_default=True,
    help="Where to compute.",
)
@processes_option
@unfinished_option
@one_voice()
def command(
    run: Path,
    number: int,
    output: Path,
    seed: int,
    label: str | None,
    attributes: str | None,
    after: str | None,
    steps: int | None,
    start_proposals: int | None,
    decode: str,
    temperature: float,
    batch_size: int,
    device: Literal["auto", "cpu", "cuda", "mps"],
    processes: int,
    allow_unfinished: bool,
) -> None:
    """Draw images from the trained RUN: the i-th is the same for any number of processes.

    A folder gets 000000.png, …; FILE.npz gets `images`, uint8 (N, H, W, C).
    """
    if launched(processes):
        return
    from hebm import pipeline
    from hebm.config.settings import RunSettings
    from hebm.evaluation.shares import Processes
    from hebm.noise import whole_blocks
    from hebm.pixel_levels import to_pixels
    from hebm.progress import Progress
    from hebm.report.files import save_images
    from hebm.runs import open_run
    from hebm.training.listeners import counted

    accelerator = pipeline.make_accelerator(RunSettings(device=device))
    opened = open_run(run, allow_unfinished=allow_unfinished, warn=warner(accelerator.is_main_process))
    model = opened.model.to(accelerator.device)
    world = accelerator.num_processes
    share = Processes(world, accelerator.process_index, accelerator.gather if world > 1 else None)
    size = whole_blocks(batch_size)  # a batch is the same whoever computes it

    diagnostics: list[Mapping[str, Tensor]] = []

    def draw(rows: int, start: int) -> Tensor:
        images = model.sample(
            rows,
            seed,
            start,
            label=label,
            attributes=attributes,
            after=after,
            steps=steps,
            start_proposals=start_proposals,
            decode=decode,
            temperature=temperature,
            batch_size=size,
            diagnose=diagnostics.append,
        )
        return to_pixels(images)

    progress, mine = Progress(quiet=not accelerator.is_main_process, task="sample"), share.batches(number, size)
    parts = [draw(rows, start) for start, rows in counted("prior", mine, progress)]
    progress.ended()
    pixels = share.join(parts, draw(1, 0)[:0], number, size)
    if accelerator.is_main_process:
        save_images(pixels.cpu(), output)
        for line in _how(diagnostics[: len(parts)], model.adaptations):
            click.echo(line)
        click.echo(f"{number} images in {output}")


def _how(diagnostics: Sequence[Mapping[str, Tensor]], adaptations: Mapping[str, Adaptation]) -> Iterator[str]:
    """Yield a line for each diagnostic of batches of draws, and for each chain whose step size was adapted."""
    import torch

    from hebm.report.numbers import percent, significant

    for name in diagnostics[0]:
        values = torch.cat([batch[name] for batch in diagnostics])
        yield f"{name.replace('_', ' ')}: {significant(float(values.mean()))} (mean of {len(values)})"
    for name, (h, acceptance) in adaptations.items():
        yield f"{name}: step size {significant(h)}, adapted, acceptance {percent(acceptance)}"
