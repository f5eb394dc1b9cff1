"""A group of commands that are components of the registry, each imported only when it is called."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import click
from click.shell_completion import CompletionItem

from hebm import registry
from hebm.cli.completion import starting_with
from hebm.distributions import unreadable_note
from hebm.suggest import did_you_mean


class LazyGroup(click.Group):
    """A group with one command for each name of an entry-point group. A broken one only fails when it is called.

    Attributes:
        components: the entry-point group.
        noun: what a name stands for, in messages and help.
    """

    components: ClassVar[str]
    noun: ClassVar[str]

    @abstractmethod
    def load(self, ctx: click.Context, name: str) -> click.Command:
        """Return the command of a name, which is in the registry. Raises `PluginError` if it is broken."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the names without importing anything."""
        return list(registry.names(self.components))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command of a name; None for an unknown name."""
        return self.load(ctx, cmd_name) if cmd_name in registry.names(self.components) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Look up a command; suggest a similar name for an unknown one."""
        known = registry.names(self.components)
        if args[0] not in known and not args[0].startswith("-") and not ctx.resilient_parsing:
            hint = did_you_mean(args[0], known)
            every = f"({self.noun}s: {', '.join(known)})"
            raise click.UsageError(f"no {self.noun} {args[0]!r}{hint} {every}{unreadable_note()}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with the first line of their docstrings, without importing them."""
        entries = registry.status(self.components)
        rows = [(entry.name, f"(broken: {entry.error})" if entry.error else entry.summary) for entry in entries]
        with formatter.section(f"{self.noun.capitalize()}s"):
            formatter.write_dl(rows)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names of commands without importing them."""
        return starting_with(incomplete, self.list_commands(ctx)) + click.Command.shell_complete(self, ctx, incomplete)
