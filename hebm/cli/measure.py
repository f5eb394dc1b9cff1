"""`hebm measure`: measure images that no run made."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hebm.cli.json_output import json_option, only_json, print_json
from hebm.cli.options import UserPath, set_option


@click.command()
@click.argument("images", type=UserPath(exists=True))
@click.option(
    "--data",
    required=True,
    type=UserPath(exists=True, dir_okay=False),
    metavar="FILE.toml",
    help="A run's file, or one with [data] and [evaluate] alone.",
)
@set_option
@click.option("-o", "--output", type=UserPath(dir_okay=False), help="FILE.json for the measurements.")
@click.option(
    "--stats",
    type=UserPath(exists=True, dir_okay=False),
    help="Compare with the moments in this .npz (pytorch-fid's format) instead of the data's images.",
)
@click.option(
    "--save-stats",
    type=UserPath(dir_okay=False),
    help="Write the moments of IMAGES in the first extractor to this .npz (pytorch-fid's format).",
)
@json_option
def command(
    images: Path,
    data: Path,
    overrides: tuple[str, ...],
    output: Path | None,
    stats: Path | None,
    save_stats: Path | None,
    as_json: bool,
) -> None:
    """Measure IMAGES (a folder, .zip, .tar or .npz) against a data set: `hebm measure samples.npz --data run.toml`.

    All of IMAGES are used, and evaluate.samples reference images. A metric that needs a trained model is an error;
    without evaluate.metrics, the default ones that need no model are computed. A metric that fails is listed with its
    reason, the others are measured, and the exit status is 1.

    pytorch-fid's statistics are of its Inception: use them with --set 'evaluate.extractors=["inception"]'.

    With --json: `images`, and what metrics.json of a run has: `measurements`, `conditions`, `failures` and so on.
    """
    from hebm.measuring import measure
    from hebm.store.durable import replace_file, reporting

    with only_json(as_json):
        found = measure(images, data, changes=overrides, stats=stats, save_stats=save_stats)
    content = {"images": str(images), **found.results.to_json()}
    if output is not None:
        with reporting(f"write {output}"):
            replace_file(output, (json.dumps(content, indent=2) + "\n").encode())
    if as_json:
        print_json(content)
    else:
        click.echo(str(found))
    found.results.require_all()
