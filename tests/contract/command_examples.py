"""Commands for the tests of the kit, in a module of their own: importing it must not import torch."""

import click


@click.command()
@click.argument("run")
@click.option("--seed", type=int, default=0, help="Of the draws.")
def sound(run, seed):
    """Count the draws of RUN."""
    import torch

    click.echo(torch.zeros(seed))


@click.group()
def sound_group():
    """Commands that work with draws of a prior."""


@sound_group.command()
@click.option("--seed", type=int, help="Of the draws.")
def count(seed):
    """Count the draws of a run."""


@click.command()
@click.argument("run")
def undocumented(run):
    pass


@click.command()
@click.argument("run")
@click.option("--seed", type=int)
def silent_option(run, seed):
    """Count the draws of RUN."""


@click.group()
def silent_inside():
    """Commands that work with draws of a prior."""


@silent_inside.command("count")
def silent_count():
    pass


@click.command(add_help_option=False)
@click.argument("run")
def helpless(run):
    """Count the draws of RUN."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1)
def takes_anything(words):
    """Print the number of WORDS."""


class Strict(click.Command):
    """A command that parses its own arguments."""

    def parse_args(self, ctx, args):
        if any(word not in ("--help",) for word in args):
            raise KeyError(args[0])
        return super().parse_args(ctx, args)


@click.command(cls=Strict)
def crashes():
    """Count the draws of a run."""


@click.command("verify")
@click.argument("run")
def named_as_another(run):
    """Count the draws of RUN."""
