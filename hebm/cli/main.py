"""The command `hebm`: a group of commands, which are plugins and imported only when called."""

from __future__ import annotations

import os
import warnings
from typing import Any, TextIO

import click
from typing_extensions import override

import hebm
from hebm import messages, registry
from hebm.blocking import from_environment, require_installed
from hebm.cli.lazy_group import LazyGroup
from hebm.cli.output import OPTIONS, logging_packages, with_output_options
from hebm.distributions import hide_unreadable
from hebm.errors import CheckpointError, ConfigError, HebmError, HebmWarning, PluginError
from hebm.printable import print_escaped
from hebm.registry import COMMANDS
from hebm.store.durable import denied


class Commands(LazyGroup):
    """The commands of the entry-point group `hebm_commands`. A broken command only fails when it is called."""

    components, noun = COMMANDS, "command"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Escape unprintable characters in all output, and check `HEBM_BLOCK`, before parsing arguments."""
        print_escaped()
        messages.reset()
        ctx.call_on_close(messages.reset)
        try:
            for block in from_environment():
                require_installed(block)
        except PluginError as error:
            raise click.UsageError(f"{registry.BLOCK_VARIABLE}: {error}", ctx) from None
        try:
            return super().parse_args(ctx, args)
        except ConfigError as error:
            raise click.UsageError(str(error), ctx) from None

    @override
    def load(self, ctx: click.Context, name: str) -> click.Command:
        command: click.Command = registry.find(COMMANDS, name)
        return with_output_options(command)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print warnings of hebm as notes, and errors that users can fix as messages.

        This includes errors of the operating system about a file or folder. Errors set the exit status.
        """
        hide_unreadable()
        try:
            with messages.shown_logs(logging_packages()), warnings.catch_warnings():
                warnings.showwarning = _as_note
                return super().invoke(ctx)
        except HebmError as error:
            messages.error(str(error), error)
            ctx.exit(error.exit_status)
        except click.ClickException as error:
            messages.log_error(error.format_message())
            raise
        except OSError as error:
            if error.filename is None:
                _log_bug(error)
                raise
            messages.error(str(denied(error)), error)
            ctx.exit(CheckpointError.exit_status)
        except Exception as error:
            _log_bug(error)
            raise


def _log_bug(error: Exception) -> None:
    """Write an error that ends hebm with a traceback to the log files, too."""
    if not isinstance(error, (click.exceptions.Exit, click.Abort)):
        messages.log_error(type(error).__name__, error)


def _as_note(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of hebm as a note, once for all processes of a run; print others as Python does."""
    if not issubclass(category, HebmWarning):
        messages.progress(warnings.formatwarning(message, category, filename, lineno).rstrip("\n"))
    elif os.environ.get("RANK", "0") == "0":
        messages.note(str(message))


def _block(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
    try:
        for what in value:
            registry.block(what)
    except PluginError as error:
        raise click.BadParameter(str(error), ctx, parameter) from None


_SETTINGS = {"help_option_names": ["-h", "--help"], "color": True}
"""With `color`, click does not strip colour codes in text from outside, so that they are spelled out."""


@click.group(cls=Commands, context_settings=_SETTINGS)
@click.version_option(hebm.__version__, "--version", prog_name="hebm")
@click.option(
    "--block",
    metavar="WHAT",
    multiple=True,
    expose_value=False,
    callback=_block,
    help="Block plugins: DISTRIBUTION, GROUP:NAME (such as priors:joint) or DISTRIBUTION/GROUP:NAME. Repeatable; "
    f"the environment variable {registry.BLOCK_VARIABLE} takes a comma-separated list.",
)
def main() -> None:
    """Train, sample and compare learned priors of hierarchical latent-variable generators."""


main.params += OPTIONS


if __name__ == "__main__":
    main()
