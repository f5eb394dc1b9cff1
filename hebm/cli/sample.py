"""`hebm sample`: images from a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from hebm.cli.launch import launched, one_voice
from hebm.cli.options import processes_option, run_argument, warner

if TYPE_CHECKING:
    from torch import Tensor

    from hebm.runs import Run


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
    label: str | None,
    attributes: str | None,
    after: str | None,
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
    from hebm.interfaces import Request
    from hebm.noise import whole_blocks
    from hebm.report.files import save_images
    from hebm.runs import open_run

    accelerator = pipeline.make_accelerator(RunSettings(device=device))
    opened = open_run(run, warn=warner(accelerator.is_main_process))
    asked = asked_labels(opened, label, attributes)
    model = opened.model(str(accelerator.device))
    world = accelerator.num_processes
    share = Processes(world, accelerator.process_index, accelerator.gather if world > 1 else None)
    size = whole_blocks(batch_size)  # a batch is the same whoever computes it

    def draw(rows: int, start: int) -> Tensor:
        labels = None if asked is None else asked.expand(rows, *asked.shape[1:])
        asked_for = Request(labels, steps=steps, after=after)
        return to_pixels(model.sample(rows, seed, start, asked_for, decode, size, temperature))

    parts = [draw(rows, start) for start, rows in share.batches(number, size)]
    pixels = share.join(parts, draw(1, 0)[:0], number, size)
    if accelerator.is_main_process:
        save_images(pixels.cpu(), output)
        click.echo(f"{number} images in {output}")


def asked_labels(run: Run, label: str | None, attributes: str | None) -> Tensor | None:
    """Return a row of labels, a class `(1,)` or attributes `(1, A)`, by the names that the run's images have; or None.

    Arguments:
        run: the run, opened.
        label: a class, by name or number.
        attributes: names separated by commas; a leading minus sign asks for images without.

    Raises `ConfigError` for unknown names, and if both are asked for or the images have the other kind.
    """
    if label is None and attributes is None:
        return None
    import torch

    from hebm.data.labels import attribute_values, class_index
    from hebm.errors import ConfigError

    if label is not None and attributes is not None:
        raise ConfigError("--label and --attributes: images have classes or attributes, never both; give one of them")
    images, where = run.images, f"the images of {run.folder.path}"
    if label is not None and images.attributes:
        known = ", ".join(images.attributes)
        raise ConfigError(f"--label: {where} have attributes, not classes; use --attributes with: {known}")
    if attributes is not None and images.classes:
        known = ", ".join(images.classes)
        raise ConfigError(f"--attributes: {where} have classes, not attributes; use --label with: {known}")
    if label is not None:
        return torch.tensor([class_index(label, images.classes)])
    return torch.tensor([attribute_values(attributes or "", images.attributes)])
