"""`hebm check`: build everything, take a few steps, report problems and estimate the time of a run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from hebm.cli.importing import importing
from hebm.cli.json_output import json_option, only_json, print_json
from hebm.cli.options import config_argument, set_option
from hebm.errors import HebmError, HebmWarning


@click.command()
@config_argument
@set_option
@json_option
def command(config: Path, overrides: tuple[str, ...], as_json: bool) -> None:
    """Build all parts of CONFIG, take a few training steps of every phase, and draw 64 samples.

    Estimates the time of the run on this machine. Writes nothing. Exits with 0 if the run can start. For a sweep file,
    it checks one run of each variant.

    With --json: `config`, `ready` (whether the run can start), and `errors` and `notes`, both lists of strings. If it
    is ready, also `images` (a description of the splits), `phases` (steps by name), `estimate` (`seconds`, `phases` and
    `evaluation` in seconds, `timed_steps`, `uncounted`), `memory_mib`, and `threads` (null, or the fastest number
    `best`, and `seconds` of training by number); for a sweep, these five by variant under `variants`.
    """
    if not as_json:
        _checked(config, overrides, echo=True)
        return
    found: dict[str, Any] = {"errors": [], "notes": []}
    failed: HebmError | None = None
    with warnings.catch_warnings(record=True) as warned, only_json(True):
        warnings.simplefilter("always", HebmWarning)
        try:
            found |= _checked(config, overrides, echo=False)
        except HebmError as error:
            failed, found["errors"] = error, str(error).splitlines()
    said = dict.fromkeys(str(warning.message) for warning in warned if issubclass(warning.category, HebmWarning))
    print_json({"config": str(config), "ready": failed is None, **found, "notes": [*said, *found["notes"]]})
    if failed is not None:
        raise click.exceptions.Exit(failed.exit_status)


def _checked(config: Path, overrides: tuple[str, ...], echo: bool) -> Mapping[str, Any]:
    """Check a run or a sweep, and return the result. Raises the same errors as `check`."""
    from hebm.config.sweep_file import Sweep, is_sweep_file

    if is_sweep_file(config):
        from hebm.sweeps.running import SweepPlan, check_sweep

        checks = check_sweep(SweepPlan.of(Sweep.load(config, overrides)), click.echo if echo else _silent)
        if echo:
            click.echo(f"ready: start it with  hebm sweep {config}")
        notes = [f"{variant}: {note}" for variant, found in checks.items() for note in found.notes]
        return {"notes": notes, "variants": {variant: found.to_json() for variant, found in checks.items()}}
    with importing():
        from hebm.config.experiment import Experiment

    experiment = Experiment.load(config, overrides)  # slow imports follow once the file is valid
    from hebm.checking import check

    found = check(experiment, click.echo if echo else _silent)
    if echo:
        click.echo(f"ready: start it with  hebm run {config}")
    return found.to_json()


def _silent(line: str) -> None:
    """Ignore a line, since the output is one JSON object."""
