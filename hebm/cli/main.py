"""The command `hebm`: a group of commands, which are plugins and imported only when called."""

from __future__ import annotations

import os
import warnings
from typing import Any, TextIO

import click
from click.shell_completion import CompletionItem

import hebm
from hebm import messages, registry
from hebm.blocking import from_environment, require_installed
from hebm.cli.output import OPTIONS, logging_packages, with_output_options
from hebm.distributions import hide_unreadable, unreadable_note
from hebm.errors import CheckpointError, ConfigError, DataWarning, HebmError, PluginError
from hebm.printable import print_escaped
from hebm.registry import COMMANDS
from hebm.store.durable import denied
from hebm.suggest import did_you_mean


class Commands(click.Group):
    """The commands of the entry-point group `hebm_commands`. A broken command only fails when it is called."""

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

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names of the commands without importing them."""
        return list(registry.names(COMMANDS))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command, and add the options that every command takes. Raises `PluginError` if it is broken."""
        if cmd_name not in registry.names(COMMANDS):
            return None
        command: click.Command = registry.find(COMMANDS, cmd_name)
        return with_output_options(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Look up the command; suggest a similar name for an unknown one."""
        known = registry.names(COMMANDS)
        if args[0] not in known and not args[0].startswith("-") and not ctx.resilient_parsing:
            hint = did_you_mean(args[0], known)
            raise click.UsageError(
                f"no command {args[0]!r}{hint} (commands: {', '.join(known)}){unreadable_note()}", ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with the first line of their docstrings, without importing them."""
        entries = registry.status(COMMANDS)
        rows = [(entry.name, f"(broken: {entry.error})" if entry.error else entry.summary) for entry in entries]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names of commands without importing them."""
        names = [CompletionItem(name) for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; print warnings about data as notes, and errors that users can fix as messages.

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
    """Print a warning about data as a note, once for all processes of a run; print others as Python does."""
    if not issubclass(category, DataWarning):
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
