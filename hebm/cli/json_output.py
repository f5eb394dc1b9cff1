"""The option `--json` of commands: print one JSON object on the standard output, and nothing else."""

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
    help="Print one JSON object in place of text.",
)
"""The flag `--json`, which commands receive as `as_json`."""


def print_json(found: Mapping[str, Any]) -> None:
    """Print one JSON object on the standard output; NaN and infinities become null.

    Arguments:
        found: the result of a command, with keys in snake_case.
    """
    click.echo(json.dumps(finite(found), indent=2, allow_nan=False))


@contextlib.contextmanager
def only_json(as_json: bool) -> Iterator[None]:
    """Redirect text that is printed inside the context, such as messages of a download, to the error stream.

    Arguments:
        as_json: False changes nothing.
    """
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield
