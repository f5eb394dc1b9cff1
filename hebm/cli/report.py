"""`hebm report`: write the page of a run again."""

from __future__ import annotations

from pathlib import Path

import click

from hebm.cli.options import UserPath


@click.command()
@click.argument("run", type=UserPath())
def command(run: Path) -> None:
    """Draw report.html of the run folder RUN again, from the files in it: no model, no data."""
    from hebm.report.page import write_report  # only when called: plotting takes a second to import
    from hebm.store.run_folder import RunFolder

    click.echo(write_report(RunFolder(run)))
