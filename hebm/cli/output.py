"""The options `--quiet`, `--verbose` and `--log-file`, which every command takes, before its name and after it."""

from __future__ import annotations

import copy
import os
import shlex
import sys
from pathlib import Path

import click

import hebm
from hebm import messages
from hebm.cli.options import UserPath
from hebm.distributions import installed_distributions


def _quiet(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        _require_one(ctx, "--verbose", messages.is_verbose())
        messages.be_quiet()


def _verbose(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        _require_one(ctx, "--quiet", messages.is_quiet())
        messages.be_verbose()


def _require_one(ctx: click.Context, other: str, given: bool) -> None:
    if given:
        raise click.UsageError(f"--quiet and --verbose exclude each other; leave {other} out", ctx)


def _log_file(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is None or ctx.resilient_parsing:
        return
    try:
        messages.log_to_file(value)
    except OSError as error:
        raise click.BadParameter(f"{value} cannot be written: {error.strerror or error}", ctx, parameter) from None
    if os.environ.get("RANK", "0") == "0":
        messages.progress(f"hebm {hebm.__version__}: {shlex.join(['hebm', *sys.argv[1:]])}", shown=False)


OPTIONS = (
    click.Option(
        ["--quiet", "_quiet"],
        is_flag=True,
        expose_value=False,
        callback=_quiet,
        help="Print only results and errors, without progress and notes.",
    ),
    click.Option(
        ["--verbose", "_verbose"],
        is_flag=True,
        expose_value=False,
        callback=_verbose,
        help="Print debug messages too, and the traceback of an error.",
    ),
    click.Option(
        ["--log-file", "_log_file"],
        metavar="FILE",
        type=UserPath(dir_okay=False),
        expose_value=False,
        callback=_log_file,
        help="Append progress, notes, errors and debug messages to FILE, with their times.",
    ),
)
"""The three options. The names of their parameters start with `_`, to differ from those of commands."""


def with_output_options(command: click.Command) -> click.Command:
    """Return a copy of a command with the three options added, except those that it already has."""
    taken = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    copied = copy.copy(command)
    copied.params = [*command.params, *(option for option in OPTIONS if not taken.intersection(option.opts))]
    return copied


def logging_packages() -> set[str]:
    """Return the packages whose log records are printed: hebm, and those that declare components."""
    points = [point for one in installed_distributions().declaring for point in one.points]
    return {"hebm", *(point.value.partition(":")[0].partition(".")[0].strip() for point in points)}
