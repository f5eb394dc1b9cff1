"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

config_argument = click.argument("config", type=click.Path(path_type=Path))
run_argument = click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
set_option = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a key, such as --set prior.sampler.steps=30; the value is TOML or a bare word. Repeatable.",
)
processes_option = click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of processes to start on this machine.",
)
allow_option = click.option(
    "--allow-changes", is_flag=True, help="Go on although configuration, data or versions changed since it started."
)

force_option = click.option(
    "--force", is_flag=True, help="Replace an existing output, and an unfinished one of other options."
)
unfinished_option = click.option(
    "--allow-unfinished", is_flag=True, help="Use the weights of a run whose training is not over."
)


def warner(main: bool) -> Callable[[str], None]:
    """Return a function that shows notes to the user; in other processes than the main one it does nothing."""
    return lambda message: click.echo(f"note: {message}", err=True) if main else None
