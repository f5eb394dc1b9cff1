"""End a command that writes an output batch by batch: say what is kept, and the command that goes on."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from hebm import messages
from hebm.errors import HebmError

if TYPE_CHECKING:
    from hebm.outputs.resumable import Resumable


@contextmanager
def going_on(output: Resumable[Any] | None, total: int, what: str) -> Iterator[None]:
    """Inside, a signal that asks to stop ends the command with 128 + its number, and an error says what is kept.

    Arguments:
        output: that is written; None in processes that write nothing, which say nothing.
        total: the number of rows of the whole output.
        what: the rows are, such as "images".
    """
    from hebm.stopping import Interrupted, interrupted_by_signals

    try:
        with interrupted_by_signals():
            yield
    except Interrupted as stopped:
        _say(output, total, what, "stopped: ")
        raise click.exceptions.Exit(128 + stopped.signal) from None
    except HebmError:
        _say(output, total, what, "")
        raise


def _say(output: Resumable[Any] | None, total: int, what: str, how: str) -> None:
    if output is not None and (how or output.done):
        command = shlex.join(("hebm", *sys.argv[1:]))
        kept = f"{how}{output.done:,} of {total:,} {what} are kept for {output.target}"
        messages.note(f"{kept}; go on with: {command}")
