"""`hebm compare`: compare finished runs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from hebm import messages
from hebm.cli.against import against_option, end_against, show_against
from hebm.cli.options import RunPath, UserPath


@click.command()
@click.argument("runs", nargs=-1, required=True, type=RunPath())
@click.option(
    "-o",
    "--output",
    multiple=True,
    type=UserPath(),
    help="Write FILE.html, .png, .md, .tex, .csv or .json, or FOLDER.measurements for --against. Repeatable.",
)
@click.option(
    "--baseline",
    metavar="NAME",
    help="Show paired differences from this run, or from the variant whose run names start with NAME.",
)
@against_option
@click.option("--anyway", is_flag=True, help="Show numbers even if they were measured under different conditions.")
def command(
    runs: tuple[Path, ...], output: tuple[Path, ...], baseline: str | None, against: Path | None, anyway: bool
) -> None:
    """Compare the finished run folders RUNS in a table; -o FILE.html and -o FILE.png include samples.

    The best runs come first, ordered by gap closed if it was measured. Runs that differ only in their seed are one
    variant, with an additional row for mean and standard deviation. Named evaluations have their own rows. In a
    terminal, columns that do not fit its width follow below. Numbers that were measured under different conditions,
    such as extractor, number of images, split or data set, give an error.

    `-o NAME.measurements` writes a folder with a JSON file for each variant: its seeds, every number with its standard
    error, extractor, N, split, versions and machine. `--against NAME.measurements` compares runs with such a folder: it
    shows the new and the committed number, their difference, and whether this exceeds the noise of seeds and standard
    errors.
    """
    from hebm.comparing import compare

    found = compare(runs, anyway, baseline=baseline)
    click.echo(found.text(shutil.get_terminal_size().columns) if sys.stdout.isatty() else str(found))
    for line in found.differing:
        messages.note(f"measured differently: {line}")
    for line in found.left_out:
        messages.note(line)
    held = None if against is None else found.against(against, anyway)
    if held is not None:
        show_against(held)
    for path in output:
        found.save(path)
        click.echo(f"written: {path}")
    if held is not None:
        end_against(held)
