"""The command `hebm`: a group whose commands are plugins, each imported only when it is called."""

from __future__ import annotations

from typing import Any

import click
from click.shell_completion import CompletionItem

import hebm
from hebm import registry
from hebm.errors import HebmError
from hebm.registry import COMMANDS
from hebm.suggest import did_you_mean


class Commands(click.Group):
    """The commands of the entry-point group `hebm_commands`. A broken one hurts only those who call it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, nothing imported."""
        return list(registry.names(COMMANDS))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, imported now. Raises `PluginError` if it is broken."""
        if cmd_name not in registry.names(COMMANDS):
            return None
        command: click.Command = registry.find(COMMANDS, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Look the command up; suggest the near one for an unknown."""
        known = registry.names(COMMANDS)
        if args[0] not in known and not args[0].startswith("-") and not ctx.resilient_parsing:
            hint = did_you_mean(args[0], known)
            raise click.UsageError(f"no command {args[0]!r}{hint} (commands: {', '.join(known)})", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their first line of documentation, read without importing them."""
        entries = registry.status(COMMANDS)
        rows = [(entry.name, f"(broken: {entry.error})" if entry.error else entry.summary) for entry in entries]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names without importing the commands."""
        names = [CompletionItem(name) for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run; an error that the user can mend is a message and an exit status, not a traceback."""
        try:
            return super().invoke(ctx)
        except HebmError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(error.exit_status)


def _block(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
    for distribution in value:
        registry.block(distribution)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(hebm.__version__, "--version", prog_name="hebm")
@click.option(
    "--block",
    metavar="DISTRIBUTION",
    multiple=True,
    expose_value=False,
    callback=_block,
    help=f"Leave a distribution's plugins out; so does the environment variable {registry.BLOCK_VARIABLE}.",
)
def main() -> None:
    """Train, sample and compare learned priors of hierarchical latent-variable generators."""


if __name__ == "__main__":
    main()
