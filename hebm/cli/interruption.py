"""End a command that writes its output in batches: report the finished part, and the command that resumes."""

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
    """Exit with status 128 + n after stop signal n inside the context; after any error, report the finished part.

    Arguments:
        output: the output; None in processes that do not write and so report nothing.
        total: the number of rows of the whole output.
        what: the name of the rows, such as "images".
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
        kept = f"{how}{output.done:,} of {total:,} {what} are saved for {output.target}"
        messages.note(f"{kept}; continue with: {command}")
