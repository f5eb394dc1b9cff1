"""`hebm evaluate`: measure a trained run again, with other settings if given."""

from __future__ import annotations

import os
from pathlib import Path

import click

from hebm.cli.launch import launched, one_voice
from hebm.cli.options import (
    allow_option,
    processes_option,
    run_argument,
    set_option,
    unfinished_option,
    warner,
)


@click.command()
@run_argument
@set_option
@processes_option
@allow_option
@unfinished_option
@click.option("--name", metavar="NAME", help="Keep the results next to metrics.json, as RUN/evaluations/NAME.json.")
@one_voice()
def command(
    run: Path,
    overrides: tuple[str, ...],
    processes: int,
    allow_changes: bool,
    allow_unfinished: bool,
    name: str | None,
) -> None:
    """Evaluate the trained RUN: `hebm evaluate runs/x --set evaluate.samples=50000`.

    Rewrites its metrics.json and report.html. Keys other than evaluate.…, run.… and data.root are refused. With --name
    the page and `hebm compare` show the results next to those of metrics.json, which stays as it is.
    """
    from hebm.stored_runs import read_run

    _ = read_run(run, overrides).written  # a mistake is told before several processes are started
    if launched(processes):
        return
    from hebm.runs import open_run

    main = os.environ.get("RANK", "0") == "0"
    opened = open_run(run, allow_unfinished=allow_unfinished, warn=warner(main))
    found = opened.evaluate(overrides, name=name, allow_changes=allow_changes)
    if main:
        click.echo(str(found))
