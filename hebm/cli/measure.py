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
    help="The file of a run, or one with only [data] and [evaluate].",
)
@set_option
@click.option("-o", "--output", type=UserPath(dir_okay=False), help="Write the measurements to this .json file.")
@click.option(
    "--stats",
    type=UserPath(exists=True, dir_okay=False),
    help="Compare with the moments in this .npz (pytorch-fid's format) in place of the data's images.",
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

    Uses all IMAGES and evaluate.samples reference images. A metric that needs a trained model is an error. Without
    evaluate.metrics, the default metrics that need no model are computed. If a metric fails, it is listed with its
    reason, the others are measured, and the exit status is 1.

    Statistics of pytorch-fid come from its Inception network: use them with --set 'evaluate.extractors=["inception"]'.

    With --json: `images` and the keys of a run's metrics.json: `measurements`, `conditions`, `failures` and so on.
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
