"""`hebm run`: train, sample, evaluate, report; again, it resumes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from hebm.cli.options import config_argument, launched, processes_option, set_option


@click.command()
@config_argument
@set_option
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where runs live.")
@processes_option
@click.option("--allow-changes", is_flag=True, help="Resume although configuration, data or versions changed.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(
    config: Path, overrides: tuple[str, ...], runs: Path, processes: int, allow_changes: bool, quiet: bool
) -> None:
    """Train, sample, evaluate and report the experiment CONFIG; started again, it resumes.

    Writes runs/NAME with checkpoints, metrics.jsonl, metrics.json, sample grids and report.html.
    """
    from hebm.config.experiment import load  # the heavy imports wait until a run is certain

    experiment = load(config, overrides)
    if launched(processes):
        return
    from hebm import pipeline
    from hebm.cli.progress import Progress
    from hebm.cli.table import metrics_table
    from hebm.store.run_folder import RunFolder
    from hebm.train.loop import Stopped

    folder = RunFolder(runs / experiment.name)
    accelerator = pipeline.make_accelerator(experiment.run, folder.path)
    assembly = pipeline.assemble(experiment, accelerator.device)
    with pipeline.opened(folder, assembly, accelerator, allow_changes) as (run_id, finished), _signals() as stop:
        progress = Progress(folder.samples, _tracker(accelerator, experiment), quiet)
        if not finished:
            try:
                pipeline.train(assembly, folder, run_id, accelerator, progress, stop)
            except Stopped as stopped:
                progress.close()
                click.echo(f"note: {stopped}", err=True)
                raise click.exceptions.Exit(128 + stopped.signal) from None
            progress.close()
            pipeline.measure(assembly, folder, accelerator)
        accelerator.end_training()
        if accelerator.is_main_process:
            click.echo(metrics_table(folder))


def _tracker(accelerator: Any, experiment: Any) -> Callable[[Mapping[str, Any]], None]:
    """Passes lines of metrics to accelerate's trackers, if the run names any."""
    if not experiment.run.trackers:
        return lambda record: None
    accelerator.init_trackers(experiment.name)

    def track(record: Mapping[str, Any]) -> None:
        numbers = {key: value for key, value in record.items() if isinstance(value, (int, float))}
        accelerator.log(numbers, step=record["total_step"])

    return track


@contextmanager
def _signals() -> Iterator[Callable[[], int]]:
    """Inside, the first SIGTERM or SIGINT asks training to save and stop; a second one ends the process as usual."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, previous[number])

    previous = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
