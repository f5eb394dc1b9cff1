"""`hebm evaluate`: measure a trained run again, optionally with other settings."""

from __future__ import annotations

import os
from pathlib import Path

import click

from hebm.cli.importing import importing
from hebm.cli.json_output import json_option, only_json, print_json
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
@click.option("--name", metavar="NAME", help="Store the results in RUN/evaluations/NAME.json, and keep metrics.json.")
@json_option
@one_voice()
def command(
    run: Path,
    overrides: tuple[str, ...],
    processes: int,
    allow_changes: bool,
    allow_unfinished: bool,
    name: str | None,
    as_json: bool,
) -> None:
    """Evaluate the trained RUN: `hebm evaluate runs/x --set evaluate.samples=50000`.

    Rewrites its metrics.json and report.html. Only keys of evaluate and run, and data.root, can be set. With --name,
    metrics.json does not change, and the page and `hebm compare` show the new results next to it. If a metric fails, it
    is listed with its reason, the others are measured, and the exit status is 1.

    With --json: `run`, `name` and all of metrics.json: `measurements` (name, kind, part, value, error, unit, better,
    conditions and so on), `conditions`, `failures` (metric, reason, again), `seconds` and `seconds_training`.
    """
    from hebm.stored_runs import read_run

    _ = read_run(run, overrides).written  # raises errors before several processes start
    if launched(processes):
        return
    with importing():
        from hebm.runs import open_run

    main = os.environ.get("RANK", "0") == "0"
    with only_json(as_json):
        opened = open_run(run, allow_unfinished=allow_unfinished, warn=warner(main))
        found = opened.evaluate(overrides, name=name, allow_changes=allow_changes)
    if main:
        if as_json:
            print_json({"run": str(run), "name": name, **found.results.to_json()})
        else:
            click.echo(str(found))
        found.results.require_all()
