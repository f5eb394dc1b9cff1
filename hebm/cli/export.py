"""`hebm export`: write a run's backbone as a checkpoint of published code."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from hebm.cli.completion import components_of
from hebm.cli.options import UserPath, run_argument, warner
from hebm.cli.recipe_options import words_of


@click.command("export")
@click.argument("format", metavar="FORMAT", shell_complete=components_of(["hebm_formats"]))
@run_argument
@click.option(
    "-o",
    "--output",
    type=UserPath(),
    required=True,
    help="The file to write, such as checkpoint.pt, or an existing folder for a file with the published name.",
)
def command(format: str, run: Path, output: Path) -> None:
    """Write the backbone of RUN as a checkpoint in FORMAT. An imported run is written exactly as it was imported."""
    from hebm.porting import export_checkpoint

    exported = export_checkpoint(format, run, output, warner(True))
    converted = exported.converted
    click.echo(f"{len(converted.backbone)} tensors of step {converted.step} in {exported.path}")
    options = words_of(exported.reader)
    if options:
        click.echo(f"read it by: hebm import {format} {shlex.join([str(exported.path), *options])} -o RUN")
