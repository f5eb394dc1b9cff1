"""`hebm sample`: images from a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from hebm.cli.launch import launched, one_voice
from hebm.cli.options import processes_option, run_argument, warner


@click.command()
@run_argument
@click.option("-n", "--number", type=click.IntRange(min=1), default=64, show_default=True, help="How many images.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="A folder for PNGs, or FILE.npz.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Sample i depends on it and i.")
@click.option("--steps", type=click.IntRange(min=1), help="Length of the chains, instead of the prior's own.")
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
@one_voice()
def command(
    run: Path,
    number: int,
    output: Path,
    seed: int,
    steps: int | None,
    decode: str,
    temperature: float,
    batch_size: int,
    device: Literal["auto", "cpu", "cuda", "mps"],
    processes: int,
) -> None:
    """Draw images from the trained RUN: the i-th is the same for any number of processes.

    A folder gets 000000.png, …; FILE.npz gets `images`, uint8 (N, H, W, C).
    """
    if launched(processes):
        return
    from hebm import pipeline
    from hebm.config.settings import RunSettings
    from hebm.evaluate.references import to_pixels
    from hebm.evaluate.shares import Processes
    from hebm.model import Model
    from hebm.report.files import save_images

    accelerator = pipeline.make_accelerator(RunSettings(device=device))
    model = Model.load(run, str(accelerator.device), warner(accelerator.is_main_process))
    world = accelerator.num_processes
    share = Processes(world, accelerator.process_index, accelerator.gather if world > 1 else None)
    size = max(64, batch_size // 64 * 64)  # whole noise blocks: a batch is the same whoever computes it
    parts = [
        to_pixels(model.sample(rows, seed, start, steps=steps, decode=decode, batch_size=size, temperature=temperature))
        for start, rows in share.batches(number, size)
    ]
    empty = to_pixels(model.sample(1, seed))[:0]
    pixels = share.join(parts, empty, number, size)
    if accelerator.is_main_process:
        save_images(pixels.cpu(), output)
        click.echo(f"{number} images in {output}")
