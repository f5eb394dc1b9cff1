"""`hebm check`: build everything, take two steps, report what would stop a run."""

from __future__ import annotations

from pathlib import Path

import click

from hebm.cli.options import config_argument, set_option


@click.command()
@config_argument
@set_option
def command(config: Path, overrides: tuple[str, ...]) -> None:
    """Build everything that CONFIG names, take two training steps of every phase, draw 64 samples.

    Writes nothing. Exits with 0 if the run can start. Of a sweep, a run of each variant is checked.
    """
    from hebm.config.sweep_file import Sweep, is_sweep_file

    if is_sweep_file(config):
        from hebm.sweeps.running import SweepPlan, check_sweep

        check_sweep(SweepPlan.of(Sweep.load(config, overrides)), click.echo)
        click.echo(f"ready: start it with  hebm sweep {config}")
        return
    from hebm.config.experiment import Experiment

    experiment = Experiment.load(config, overrides)  # the heavy imports wait until the file is read
    from hebm.checking import check

    check(experiment, click.echo)
    click.echo(f"ready: start it with  hebm run {config}")
