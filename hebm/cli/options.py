"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from hebm import messages
from hebm.cli.completion import path_starts_with, run_folders, starting_with
from hebm.config.paths import expanded
from hebm.config.shipped import found, shipped


class UserPath(click.Path):
    """A path in which `~` and `$VARIABLE` are replaced, since shells do not expand `--option=~/x`.

    Errors about a relative path also show the absolute path.
    """

    def __init__(self, exists: bool = False, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__(exists=exists, file_okay=file_okay, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises `ConfigError` for a home folder that does not exist."""
        path = expanded(str(value))
        try:
            return super().convert(path, param, ctx)
        except click.BadParameter as error:
            tried = "" if Path(path).is_absolute() else f" Tried: {Path(path).absolute()}"
            raise click.BadParameter(f"{error.message}{tried}", ctx, param) from error


class RunPath(UserPath):
    """A run folder; a shell completes those in the current folder and in `runs`."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the run folders; without any, let the shell complete paths: in bash it can do only one of both."""
        return run_folders(incomplete) or [CompletionItem(incomplete, type="dir")]


class ConfigPath(UserPath):
    """The path of a configuration, or the name of one that comes with hebm, such as `quickstart`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path. Raises `ConfigError` for an unknown name."""
        return found(Path(super().convert(value, param, ctx)))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return names of configurations that come with hebm; where a path fits, let the shell complete it."""
        names = [] if path_starts_with(incomplete) else starting_with(incomplete, shipped())
        return names or [CompletionItem(incomplete, type="file")]


class PerLayer(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click
    """A number of at least 0, or one such number for each latent layer, separated by commas."""

    name = "number[,number...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a float, or a tuple of floats."""
        try:
            numbers = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a number, or numbers separated by commas", param, ctx)
        if not all(number >= 0 for number in numbers):
            self.fail(f"{value!r} is out of range; allowed are numbers of at least 0", param, ctx)
        return numbers[0] if len(numbers) == 1 else numbers


config_argument = click.argument("config", type=ConfigPath())
run_argument = click.argument("run", type=RunPath(exists=True, file_okay=False))
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
    "--allow-changes",
    is_flag=True,
    help="Continue even if configuration, data or versions changed since the run started.",
)

batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Number of images per batch.  [default: chosen by memory, at most 512 on a CPU and 2048 on a GPU]",
)
force_option = click.option(
    "--force", is_flag=True, help="Replace an existing output, or an unfinished one from other options."
)
unfinished_option = click.option(
    "--allow-unfinished", is_flag=True, help="Accept a run whose training is not finished."
)


def warner(main: bool) -> Callable[[str], None]:
    """Return a function that prints notes for the user in the main process, and does nothing in others."""
    return messages.note if main else _silent


def _silent(message: str) -> None:
    """Drop a note: the main process prints it."""
