"""`hebm import`: make a run folder from a published checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hebm import messages
from hebm.cli.completion import components_of
from hebm.cli.options import UserPath, set_option

if TYPE_CHECKING:
    from hebm.porting import Imported


@click.command("import")
@click.argument("format", metavar="FORMAT", shell_complete=components_of(["hebm_formats"]))
@click.argument("checkpoint", type=UserPath(exists=True, dir_okay=False))
@click.option("-o", "--output", type=UserPath(), required=True, help="The run folder to make, such as runs/NAME.")
@set_option
def command(format: str, checkpoint: Path, output: Path, overrides: tuple[str, ...]) -> None:
    """Make a run folder from a published CHECKPOINT; `hebm plugins --group formats` lists the FORMATs.

    Reading never runs code in the file; a file that requests it gives an error. Nothing is written unless everything
    fits. Notes list assumptions and conversions (names with `module.`, half precision, paths among the arguments).

    If the model was trained on your own images, set their place: --set data.root=PATH for a folder or archive of
    images, or --set data.type=TYPE and the keys of that type. The images must have the shape that the weights expect.
    """
    from hebm.porting import import_checkpoint

    imported = import_checkpoint(format, checkpoint, output, overrides)
    for note in imported.converted.notes:
        messages.note(note)
    for line in _summary(imported):
        click.echo(line)


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
