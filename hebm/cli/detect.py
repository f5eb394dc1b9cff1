"""`hebm detect`: score your own images with a trained run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hebm import messages
from hebm.cli.importing import importing
from hebm.cli.interruption import going_on
from hebm.cli.options import UserPath, batch_size_option, force_option, run_argument, unfinished_option, warner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hebm.data.image_files import FileImages
    from hebm.data.images import Images
    from hebm.data.sample_files import NpzImages
    from hebm.detecting import Scoring
    from hebm.progress import Progress

BEYOND = 3
"""The exit status if an image is below --threshold."""


@click.command()
@run_argument
@click.argument("images")
@click.option("-o", "--output", type=UserPath(), help="The CSV file to write.  [default: the standard output]")
@force_option
@click.option(
    "--threshold",
    type=click.FloatRange(0, 100),
    metavar="P",
    help="Exit with status 3 if the total of an image is below the P-th percentile of the test images, such as P = 1.",
)
@click.option(
    "--percentiles/--no-percentiles",
    default=None,
    help="Write percentiles among the scores of the run's test images.  [default: if its data set can be read]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the posterior draws.")
@click.option(
    "--draws", type=click.IntRange(min=1), default=1, show_default=True, help="Number of posterior draws per score."
)
@batch_size_option
@click.option(
    "--corrupt",
    type=click.Choice(("stop", "skip")),
    default="stop",
    show_default=True,
    help="How to handle files that are not images; all of them are listed.",
)
@click.option(
    "--device",
    type=click.Choice(("cpu", "cuda", "mps")),
    default="cpu",
    show_default=True,
    help="Device of the computation.",
)
@unfinished_option
def command(
    run: Path,
    images: str,
    output: Path | None,
    force: bool,
    threshold: float | None,
    percentiles: bool | None,
    seed: int,
    draws: int,
    batch_size: int | None,
    corrupt: str,
    device: str,
    allow_unfinished: bool,
) -> None:
    """Score how similar IMAGES are to the training data of the trained RUN. A low score is unusual.

    IMAGES is an image file, a folder (including sub-folders), a .zip or .tar archive, an .npz from `hebm sample`, or -
    for paths on the standard input, one per line. Files are read like those of the run's data set (data.crop,
    data.size), and converted to the run's channels and size. Images in an .npz must have the run's shape.

    The CSV has a line for each file with its path, `total` (the log tilt f summed over all layers) and L>k (the sum
    over the layers above the k-th from the bottom). Each score is followed by its percentile among the scores of the
    run's test images, from 0 to 100: 2 means that the image is less similar to the training data than 98 % of the test
    images. The scores of the test images are computed once and stored in the run's folder. If the test images cannot be
    read, a note says so, and percentiles are omitted.

    Each batch is written immediately. After an interruption, the same command resumes where it stopped. An existing
    CSV, or an unfinished one from other options, is replaced only with --force.

    The exit status is 0, or 3 if an image is below --threshold; 1 and 2 are errors.
    """
    with importing():
        from hebm.detecting import Scoring
    from hebm.progress import Progress
    from hebm.runs import open_run

    if threshold is not None and percentiles is False:
        raise click.UsageError("--threshold needs percentiles; leave out --no-percentiles")
    opened = open_run(run, allow_unfinished=allow_unfinished, warn=warner(True))
    model = opened.model.to(device)
    scoring = Scoring(opened, model, draws, batch_size or model.default_batch_size)
    scoring.require_tilt()
    progress = Progress(task="detect")
    found = _images(scoring, images, corrupt == "skip", progress)
    ranked, test_images = _test_images(scoring, percentiles, threshold)
    table = _Table(scoring, found, seed, ranked, test_images, progress)
    if output is None:
        beyond = table.to_standard_output(threshold)
    else:
        table.to_file(output, force)
        beyond = 0 if threshold is None else _beyond_in(output, threshold)
        click.echo(f"{len(found)} images in {output}")
    if threshold is not None:
        messages.note(f"{beyond:,} of {len(found):,} images are below percentile {threshold:g}")
    if beyond:
        raise click.exceptions.Exit(BEYOND)


def _images(scoring: Scoring, images: str, skip: bool, progress: Progress) -> FileImages | NpzImages:
    """Return the images, and print which files are ignored."""
    from hebm.config.paths import expanded
    from hebm.data.files import left_out_lines
    from hebm.data.image_files import FileImages
    from hebm.data.listed_files import given_files
    from hebm.data.sample_files import NpzImages

    shape, path = scoring.run.stored.images.shape, Path(expanded(images))
    if path.suffix.lower() == ".npz" and path.is_file():
        return NpzImages(path, shape)
    files = given_files(images, "IMAGES", sys.stdin.buffer)
    told = partial(progress.counted, "files read")
    try:
        found = FileImages(files, shape, scoring.run.experiment.data.decoder(shape), skip, told)
    finally:
        progress.ended()
    for line in (*left_out_lines(files), found.note):
        if line:
            messages.note(line)
    return found


def _test_images(scoring: Scoring, percentiles: bool | None, threshold: float | None) -> tuple[bool, Images | None]:
    """Return whether to write percentiles: if the user requests them, or by default if test images can be read.

    Also return the test images, unless their scores are cached.
    """
    from hebm.errors import DataError

    if percentiles is False:
        return False, None
    try:
        return True, scoring.test_images()
    except DataError as error:
        if percentiles or threshold is not None:
            raise
        messages.note(f"no percentiles, since the run's test images cannot be read: {error}")
        return False, None


class _Table:
    """The table of scores, written batch by batch."""

    def __init__(
        self,
        scoring: Scoring,
        images: FileImages | NpzImages,
        seed: int,
        percentiles: bool,
        test_images: Images | None,
        progress: Progress,
    ) -> None:
        self.scoring, self.images, self.seed, self.progress = scoring, images, seed, progress
        self.percentiles, self.test_images = percentiles, test_images

    def to_file(self, output: Path, force: bool) -> None:
        """Write the missing rows of a CSV."""
        from hebm.detecting import names_digest
        from hebm.outputs.resumable import Resumable
        from hebm.outputs.tables import CsvFile

        number = len(self.images)
        settings = {
            **self.scoring.identity(),
            "seed": self.seed,
            "percentiles": self.percentiles,
            "number of images": number,
            "names of images": names_digest(self.images.names),
        }
        writer = CsvFile(output, number)
        with ExitStack() as held:
            target = held.enter_context(Resumable(writer, settings, force))
            held.enter_context(going_on(target, number, "images"))
            held.callback(self.progress.ended)

            def write(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
                writer.header = header
                target.write(rows)

            self._write(target.done, write)
            target.finish()

    def to_standard_output(self, threshold: float | None) -> int:
        """Print the table; return the number of images below the threshold."""
        from hebm.outputs.tables import csv_bytes

        beyond = printed = 0
        terminal = sys.stdout.isatty()  # terminals get escaped text; elsewhere names keep their bytes

        def write(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
            nonlocal beyond, printed
            lines = csv_bytes(rows if printed else [header, *rows])
            click.echo(lines.decode(errors="backslashreplace") if terminal else lines, nl=False)
            printed += len(rows)
            beyond += sum(_is_beyond(dict(zip(header, row, strict=True)), threshold) for row in rows)

        try:
            self._write(0, write)
        finally:
            self.progress.ended()
        return beyond

    def _write(self, start: int, write: Callable[[Sequence[str], Sequence[Sequence[Any]]], None]) -> None:
        from hebm.detecting import header, table_rows

        ordered = self.scoring.of_test_images(self.progress, self.test_images) if self.percentiles else None
        number = len(self.images)
        self.progress.counted("images", start, number)
        for scores in self.scoring.batches(self.images, self.seed, start):
            end = start + len(scores)
            names = header(scores.shape[1], self.percentiles)
            write(names, table_rows(self.images.names[start:end], scores.cpu(), ordered))
            self.progress.counted("images", start := end, number)


def _beyond_in(path: Path, threshold: float) -> int:
    """Return the number of rows of a CSV below the threshold."""
    import csv

    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return sum(_is_beyond(row, threshold) for row in csv.DictReader(file))


def _is_beyond(row: dict[str, Any], threshold: float | None) -> bool:
    from hebm.detecting import PERCENTILE

    return threshold is not None and float(row[PERCENTILE]) < threshold
