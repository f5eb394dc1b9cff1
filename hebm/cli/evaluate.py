"""`hebm evaluate`: the metrics of a trained run anew, with other settings if wished."""

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
    from hebm.config.experiment import load
    from hebm.config.writing import dumps
    from hebm.errors import ConfigError
    from hebm.store.run_folder import RunFolder, config_changes

    folder = RunFolder(run)
    folder.read_manifest()
    experiment = load(folder.config, overrides)
    changes = config_changes(dumps(load(folder.config)), dumps(experiment))
    if changes:
        raise ConfigError(f"--set: these keys decided what {run} was trained to be; start another run: {changes}")
    if launched(processes):
        return
    from hebm import pipeline
    from hebm.cli.table import metrics_table

    accelerator = pipeline.make_accelerator(experiment.run, folder.path)
    assembly = pipeline.assemble(experiment, accelerator.device)
    with pipeline.opened(folder, assembly, accelerator, allow_changes) as (run_id, _):
        seconds = pipeline.restore(assembly, folder, run_id, warner(accelerator.is_main_process))
        pipeline.measure(assembly, folder, accelerator, seconds)
        if accelerator.is_main_process:
            click.echo(metrics_table(folder))
