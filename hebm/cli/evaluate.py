"""`hebm evaluate`: measure a trained run again, with other settings if given."""

from __future__ import annotations

from pathlib import Path

import click

from hebm.cli.launch import launched, one_voice
from hebm.cli.options import allow_option, processes_option, run_argument, set_option, warner


@click.command()
@run_argument
@set_option
@processes_option
@allow_option
@one_voice()
def command(run: Path, overrides: tuple[str, ...], processes: int, allow_changes: bool) -> None:
    """Evaluate the trained RUN: `hebm evaluate runs/x --set evaluate.samples=50000`.

    Rewrites its metrics.json and report.html. Keys other than evaluate.…, run.… and data.root are refused.
    """
    from hebm.runs import open_run

    opened = open_run(run, overrides, warner(True))
    settings = opened.written.run
    if launched(processes):
        return
    from hebm import locked_runs, pipeline
    from hebm.cli.table import metrics_table

    accelerator = pipeline.make_accelerator(settings, opened.folder.path)
    with locked_runs.locked_when_finished(opened, accelerator, allow_changes, record=True) as trained:
        results = pipeline.measure(trained.assembly, opened.folder, accelerator, trained.seconds)
        if accelerator.is_main_process:
            click.echo(metrics_table(opened.folder, results))
