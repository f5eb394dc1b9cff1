"""`hebm evaluate`: the metrics of a trained run anew, with other settings if wished."""

from __future__ import annotations

from pathlib import Path

import click

from hebm.cli.options import launched, processes_option, run_argument, set_option


@click.command()
@run_argument
@set_option
@processes_option
def command(run: Path, overrides: tuple[str, ...], processes: int) -> None:
    """Evaluate the trained RUN: `hebm evaluate runs/x --set evaluate.samples=50000`.

    Rewrites its metrics.json and report.html. Keys other than evaluate.…, run.… and data.root are refused.
    """
    from hebm.config.experiment import load
    from hebm.store.run_folder import RunFolder

    folder = RunFolder(run)
    folder.read_manifest()
    experiment = load(folder.config, overrides)
    if launched(processes):
        return
    from hebm import pipeline
    from hebm.cli.table import metrics_table
    from hebm.model import Model

    accelerator = pipeline.make_accelerator(experiment.run, folder.path)
    assembly = pipeline.assemble(experiment, accelerator.device)
    with pipeline.opened(folder, assembly, accelerator, allow=False):
        trained = Model.load(run, str(accelerator.device), lambda message: click.echo(f"note: {message}", err=True))
        assembly.model.load_state_dict(trained.state_dict())
        pipeline.measure(assembly, folder, accelerator)
        if accelerator.is_main_process:
            click.echo(metrics_table(folder))
