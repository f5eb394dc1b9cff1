"""`hebm compare`: compare finished runs."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    multiple=True,
    type=click.Path(path_type=Path),
    help="FILE.html, .png, .csv, .json or .md. Repeatable.",
)
@click.option("--anyway", is_flag=True, help="Show numbers although they were measured differently.")
def command(runs: tuple[Path, ...], output: tuple[Path, ...], anyway: bool) -> None:
    """Compare the finished run folders RUNS: a table, and with -o FILE.html or FILE.png a picture of their samples.

    Runs that differ only in their seed also get a row with mean and standard deviation. Numbers that were measured
    under different conditions, such as extractor, number of images, split or data set, are refused.
    """
    from hebm.comparing import compare

    found = compare(runs, anyway)
    click.echo(str(found))
    for line in found.differing:
        click.echo(f"note: measured differently: {line}", err=True)
    for path in output:
        found.save(path)
        click.echo(f"written: {path}")
