"""The option `--json` of commands: one JSON object on the standard output, and nothing else there."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click

from hebm.printable import print_plain
from hebm.store.metrics import finite


def _plain(ctx: click.Context, parameter: click.Parameter, value: bool) -> bool:
    if value:
        print_plain()
    return value


json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    callback=_plain,
    help="Print one JSON object instead of text, and nothing else.",
)
"""The flag `--json`; the command gets it as `as_json`."""


def print_json(found: Mapping[str, Any]) -> None:
    """Print one object on the standard output; NaN and infinities become null.

    Arguments:
        found: what a command found; its keys are in snake_case.
    """
    click.echo(json.dumps(finite(found), indent=2, allow_nan=False))


@contextlib.contextmanager
def only_json(as_json: bool) -> Iterator[None]:
    """Send everything that is printed meanwhile to the error stream, such as what a download says of itself.

    Arguments:
        as_json: whether the standard output is for one object; otherwise nothing changes.
    """
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield
