"""`hebm import`: make a run folder from a published checkpoint. Each format is a command with its own options."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from typing import TYPE_CHECKING

import click
from typing_extensions import override

from hebm import messages, registry
from hebm.cli.lazy_group import LazyGroup
from hebm.cli.options import UserPath, set_option
from hebm.cli.output import with_output_options
from hebm.cli.plugin_keys import require_readable
from hebm.cli.recipe_options import options_of, recipe_of
from hebm.outlines import Unreadable

if TYPE_CHECKING:
    from hebm.porting import Imported


_GROUP = "hebm_formats"


class FormatCommand(click.Command):
    """The command `hebm import NAME`: the arguments that every format has, and the options of this format.

    Arguments:
        name: the format's name.
        kind: the class of its recipe or its outline (`hebm.outlines`); None if it is unknown.
    """

    def __init__(self, name: str, kind: type | None) -> None:
        files, output = UserPath(exists=True, dir_okay=False), UserPath()
        own: list[click.Parameter] = [
            click.Argument(["files"], metavar="FILE...", nargs=-1, required=True, type=files),
            click.Option(["-o", "--output"], type=output, required=True, help="The run folder to make: runs/NAME."),
        ]
        about = inspect.cleandoc(kind.__doc__ or "").partition("\n\nArguments:")[0] if kind else None
        super().__init__(name, params=own, help=about)
        set_option(self)
        self.shared = frozenset(parameter.name for parameter in self.params)
        self.params += options_of(kind) if kind else []

    def invoke(self, ctx: click.Context) -> None:
        """Import the files, and print notes and a summary."""
        from hebm.porting import import_checkpoint

        given = {name: value for name, value in ctx.params.items() if name not in self.shared}
        recipe = recipe_of(registry.find(_GROUP, str(self.name)), given)
        imported = import_checkpoint(recipe, ctx.params["files"], ctx.params["output"], ctx.params["overrides"])
        for note in imported.converted.notes:
            messages.note(note)
        for line in _summary(imported):
            click.echo(line)


class Formats(LazyGroup):
    """The checkpoint formats, as commands of `hebm import`. Their options are read from their source."""

    components, noun = _GROUP, "format"

    @override
    def load(self, ctx: click.Context, name: str) -> click.Command:
        with suppress(Unreadable), registry.reading():
            require_readable(outline := registry.find(_GROUP, name))
            return with_output_options(FormatCommand(name, outline))
        kind = None if ctx.resilient_parsing else registry.find(_GROUP, name)  # completion imports no plugin
        return with_output_options(FormatCommand(name, kind))


@click.group("import", cls=Formats, subcommand_metavar="FORMAT FILE... -o RUN")
def command() -> None:
    """Make a run folder from a published checkpoint; `hebm import FORMAT --help` shows the options of a format.

    Reading never runs code in a file; a file that requests it gives an error. Nothing is written unless everything
    fits. Notes list assumptions and conversions (names with `module.`, half precision, paths among the arguments).

    If the model was trained on your own images, set their place: --set data.root=PATH for a folder or archive of
    images, or --set data.type=TYPE and the keys of that type. The images must have the shape that the weights expect.
    """


def _summary(imported: Imported) -> Iterator[str]:
    from hebm.config.writing import dumps

    backbone, run = imported.model.backbone, imported.folder.path
    for section in dumps(imported.converted.experiment).strip().split("\n\n"):
        if section.startswith(("[data", "[backbone")):
            yield f"{section}\n"
    count = sum(parameter.numel() for parameter in backbone.parameters())
    shapes = [f"{len(list(same))} x {shape}" for shape, same in groupby(backbone.layout.shapes)]
    yield f"parameters  {count:,}"
    yield f"latents     {', '.join(shapes)}, top first; {backbone.layout.dim:,} in all"
    yield f"wrote       {run}"
    yield f"next        hebm sample {run} -o images, or train.backbone_from = {str(run)!r} for a prior on it"
