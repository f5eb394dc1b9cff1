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
@one_voice()
def command(run: Path, overrides: tuple[str, ...], processes: int, allow_changes: bool, allow_unfinished: bool) -> None:
    """Evaluate the trained RUN: `hebm evaluate runs/x --set evaluate.samples=50000`.

    Rewrites its metrics.json and report.html. Keys other than evaluate.…, run.… and data.root are refused.
    A metric that fails is listed with its reason, the others are measured, and the exit status is 1.
    """
    from hebm.stored_runs import read_run

    _ = read_run(run, overrides).written  # a mistake is told before several processes are started
    if launched(processes):
        return
    from hebm.runs import open_run

    main = os.environ.get("RANK", "0") == "0"
    opened = open_run(run, allow_unfinished=allow_unfinished, warn=warner(main))
    found = opened.evaluate(overrides, allow_changes=allow_changes)
    if main:
        click.echo(str(found))
        found.results.require_all()
