"""Options that several commands share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

config_argument = click.argument("config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
run_argument = click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
set_option = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a key, such as --set prior.sampler.steps=30; the value is TOML or a bare word. Repeatable.",
)
processes_option = click.option(
    "--processes", type=click.IntRange(min=1), default=1, show_default=True, help="Start so many processes here."
)


def launched(processes: int) -> bool:
    """Start this very command again in several processes and wait for them. False if there is nothing to start."""
    if processes == 1 or "RANK" in os.environ:
        return False
    arguments = _without_processes(sys.argv[1:])
    launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "hebm.cli.main"]
    # one thread each unless told otherwise: processes that share a machine's cores slow each other down
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    status = subprocess.run([sys.executable, "-m", *launcher, *arguments], env=environment, check=False).returncode
    if status:
        raise click.exceptions.Exit(status)
    return True


def _without_processes(arguments: list[str]) -> list[str]:
    kept, skip = [], False
    for argument in arguments:
        if skip or argument == "--processes":
            skip = not skip
        elif not argument.startswith("--processes="):
            kept.append(argument)
    return kept
