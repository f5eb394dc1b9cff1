"""`hebm report`: write the report of a run again."""

from __future__ import annotations

from pathlib import Path

import click

from hebm.cli.options import UserPath


@click.command()
@click.argument("run", type=UserPath())
def command(run: Path) -> None:
    """Write report.html of the run folder RUN again from its files; this needs neither model nor data."""
    from hebm.report.page import write_report  # imported here: plotting takes a second to import
    from hebm.store.run_folder import RunFolder

    click.echo(write_report(RunFolder(run)))
