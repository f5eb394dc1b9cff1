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
    from hebm.report.comparison import differing_conditions, read_run, require_comparable, table
    from hebm.report.comparison_files import as_text, write_comparison
    from hebm.store.run_folder import RunFolder

    found = [read_run(RunFolder(run)) for run in runs]
    if not anyway:
        require_comparable(found)
    click.echo(as_text(table(found)))
    for line in differing_conditions(found):
        click.echo(f"note: measured differently: {line}", err=True)
    for path in output:
        write_comparison(found, path)
        click.echo(f"written: {path}")
