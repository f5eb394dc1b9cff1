"""The option `--against`, which compares runs with measurements in files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hebm import messages
from hebm.cli.options import UserPath
from hebm.errors import ConfigError

if TYPE_CHECKING:
    from hebm.report.against import Against

against_option = click.option(
    "--against",
    metavar="PATH",
    type=UserPath(exists=True),
    help="Compare the runs with earlier measurements: a folder NAME.measurements, or a file in it. The exit "
    "status is 1 if a number differs beyond noise, 2 if numbers are not comparable.",
)


def show_against(found: Against) -> None:
    """Print the table and its notes."""
    click.echo(f"\n{found}")
    for note in found.notes:
        messages.note(note)


def end_against(found: Against) -> None:
    """Exit with status 1 if a number differs beyond noise.

    Raises `ConfigError` if numbers are not comparable.
    """
    if found.not_comparable:
        listed = "".join(f"\n  {line}" for line in found.not_comparable)
        raise ConfigError(
            f"these numbers are not comparable with the committed ones:{listed}\n"
            "measure them alike (hebm evaluate RUN --set evaluate.samples=…), or compare them with hebm compare "
            "--anyway; an extractor that is trained on the data, such as classifier, may have other weights on "
            "another machine"
        )
    if found.outside:
        raise click.exceptions.Exit(1)
