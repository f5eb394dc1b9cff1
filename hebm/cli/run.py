"""`hebm run`: train, sample, evaluate and report; resume an interrupted run."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hebm import messages
from hebm.cli.importing import importing
from hebm.cli.launch import launched, one_voice
from hebm.cli.options import UserPath, allow_option, config_argument, processes_option, set_option, warner

if TYPE_CHECKING:
    from accelerate import Accelerator

    from hebm.pipeline import Assembly
    from hebm.store.run_folder import RunFolder


@click.command()
@config_argument
@set_option
@click.option(
    "--runs",
    type=UserPath(),
    help="The folder in which the run's folder is created.  [default: runs; a run resumed by its config.toml "
    "stays in its folder]",
)
@processes_option
@allow_option
@click.option(
    "--extend",
    is_flag=True,
    help="Train a run to more steps, with exactly the result of a longer run. Fails if this is impossible.",
)
@one_voice()
def command(
    config: Path,
    overrides: tuple[str, ...],
    runs: Path | None,
    processes: int,
    allow_changes: bool,
    extend: bool,
) -> None:
    """Train, sample, evaluate and report the experiment CONFIG, or resume it.

    CONFIG is a file, or the name of a configuration that comes with hebm, such as quickstart or nvae/cifar10. The run's
    folder is runs/NAME, where NAME is the key `name` or else the file's name. It gets checkpoints, metrics.jsonl,
    metrics.json, sample grids and report.html. If CONFIG is the config.toml of a run, that run resumes. If a metric
    fails, the others are measured and the exit status is 1.
    """
    with importing():
        from hebm.config.experiment import Experiment  # slow imports follow once the configuration is valid

    _verify(config)
    experiment = Experiment.load(config, overrides)
    if launched(processes):
        return
    from hebm import locked_runs, pipeline
    from hebm.data.splits import described
    from hebm.errors import ConfigError
    from hebm.evaluation.metrics_file import Results
    from hebm.report.text_table import metrics_table
    from hebm.store.run_folder import RunFolder
    from hebm.stored_runs import read_run

    folder = RunFolder(_place(config, runs, experiment.name))
    accelerator = pipeline.make_accelerator(experiment.run, folder.path)
    places = read_run(folder.path).places if folder.started else None
    assembly = pipeline.assemble(experiment, accelerator.device, places)
    if extend and not folder.started:
        raise ConfigError(f"--extend: {folder.path} has no run to extend yet; start one without --extend")
    say = warner(accelerator.is_main_process)
    extended = say if extend else None
    held = locked_runs.locked_for_training(folder, assembly, accelerator, allow_changes, extended, measures=True)
    with held as (run_id, stage):
        if stage != "measured":
            say(described(assembly.images))
            for note in assembly.notes:
                say(note)
            seconds = _train(assembly, folder, run_id, accelerator)
            _measure(assembly, folder, accelerator, seconds)
        if accelerator.is_main_process:
            results = read_run(folder.path).results or Results()
            click.echo(metrics_table(folder.path.name, results, folder))
            results.require_all()


def _verify(config: Path) -> None:
    """If this is a run's config.toml, open the run, so that a changed file is not read as a new experiment."""
    from hebm.store.run_folder import RunFolder
    from hebm.stored_runs import read_run

    home = RunFolder(config.parent)
    if config.resolve() == home.config.resolve() and home.started:
        read_run(home.path)


def _place(config: Path, runs: Path | None, name: str) -> Path:
    """Return the run folder: the folder of a run's config.toml, or NAME in the folder of runs."""
    from hebm.store.run_folder import RunFolder

    home = RunFolder(config.parent)
    if runs is None and config.resolve() == home.config.resolve() and home.manifest.exists():
        return home.path if name == home.path.resolve().name else home.path.parent / name
    return (runs or Path("runs")) / name


def _train(assembly: Assembly, folder: RunFolder, run_id: str, accelerator: Accelerator) -> float:
    """Train to the end and return the seconds; after stop signal n, save and exit with status 128 + n."""
    from hebm import pipeline
    from hebm.progress import Progress
    from hebm.stopping import stop_on_signals
    from hebm.training.run_state import Stopped

    try:
        with stop_on_signals() as stop:
            return pipeline.train(assembly, folder, run_id, accelerator, Progress(), stop)
    except Stopped as stopped:
        if accelerator.is_main_process:
            messages.note(str(stopped))
        raise click.exceptions.Exit(128 + stopped.signal) from None


def _measure(assembly: Assembly, folder: RunFolder, accelerator: Accelerator, seconds: float) -> None:
    """Evaluate the run. After Ctrl-C, the next start evaluates it."""
    from hebm import pipeline
    from hebm.progress import Progress

    try:
        pipeline.measure(assembly, folder, accelerator, seconds, listener=Progress())
    except KeyboardInterrupt:
        if accelerator.is_main_process:
            messages.note("evaluation stopped; start the run again to evaluate it")
        raise click.exceptions.Exit(128 + signal.SIGINT) from None
