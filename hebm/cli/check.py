"""`hebm check`: build everything, take a few steps, report what would stop a run and how long it will take."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from hebm.cli.json_output import json_option, only_json, print_json
from hebm.cli.options import config_argument, set_option
from hebm.errors import DataWarning, HebmError


@click.command()
@config_argument
@set_option
@json_option
def command(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Build everything that CONFIG names, take a few training steps of every phase, draw 64 samples.

    Estimates how long the run will take on this machine. Writes nothing. Exits with 0 if the run can start. Of a sweep,
    a run of each variant is checked.

    With --json: `config`, `ready` (whether the run can start), `errors` and `notes`, both lists of text, and where it
    is ready `images` (what the splits hold), `phases` (steps by name), `estimate` (`seconds`, `phases` and `evaluation`
    in seconds, `timed_steps`, `uncounted`) and `memory_mib`; of a sweep these four by variant, under `variants`.
    """
    if not as_json:
        _checked(config, overrides, echo=True)
        return
    found: dict[str, Any] = {"errors": [], "notes": []}
    failed: HebmError | None = None
    with warnings.catch_warnings(record=True) as warned, only_json(True):
        warnings.simplefilter("always", DataWarning)
        try:
            found |= _checked(config, overrides, echo=False)
        except HebmError as error:
            failed, found["errors"] = error, str(error).splitlines()
    said = dict.fromkeys(str(warning.message) for warning in warned if issubclass(warning.category, DataWarning))
    print_json({"config": str(config), "ready": failed is None, **found, "notes": [*said, *found["notes"]]})
    if failed is not None:
        raise click.exceptions.Exit(failed.exit_status)


def _checked(config: Path, overrides: tuple[str, ...], echo: bool) -> Mapping[str, Any]:
    """Check a run or a sweep, and return what was found. Raises what `check` raises."""
    from hebm.config.sweep_file import Sweep, is_sweep_file

    if is_sweep_file(config):
        from hebm.sweeps.running import SweepPlan, check_sweep

        checks = check_sweep(SweepPlan.of(Sweep.load(config, overrides)), click.echo if echo else _silent)
        if echo:
            click.echo(f"ready: start it with  hebm sweep {config}")
        notes = [f"{variant}: {note}" for variant, found in checks.items() for note in found.notes]
        return {"notes": notes, "variants": {variant: found.to_json() for variant, found in checks.items()}}
    from hebm.config.experiment import Experiment

    experiment = Experiment.load(config, overrides)  # the heavy imports wait until the file is read
    from hebm.checking import check

    found = check(experiment, click.echo if echo else _silent)
    if echo:
        click.echo(f"ready: start it with  hebm run {config}")
    return found.to_json()


def _silent(line: str) -> None:
    """Drop a line: the output is one JSON object."""
