"""Child processes of hebm, which receive their parent's signals, and save and stop if the parent dies."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import attrs

from hebm.stopping import handled_by

LIFELINE = "HEBM_LAUNCHER"
"""Environment variable of a child with the descriptor of a pipe; its parent holds the other end."""


@attrs.frozen
class Lifeline:
    """A pipe from a parent to its children that closes when the parent dies.

    Arguments:
        descriptor: the descriptor that children inherit; None on Windows, which does not support this.
    """

    descriptor: int | None = None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Return the descriptors to pass on to children."""
        return () if self.descriptor is None else (self.descriptor,)

    @property
    def variables(self) -> dict[str, str]:
        """Return the environment variables to set for children."""
        return {} if self.descriptor is None else {LIFELINE: str(self.descriptor)}


@contextmanager
def lifeline() -> Iterator[Lifeline]:
    """Open a pipe, hold one end in this process, and yield the other end for children."""
    if os.name == "nt":
        yield Lifeline()
        return
    read, held = os.pipe()
    try:
        yield Lifeline(read)
    finally:
        os.close(read)
        os.close(held)


def stop_with_parent() -> None:
    """Make this process save and stop when its parent dies, if the parent gave it a lifeline."""
    if LIFELINE in os.environ:
        threading.Thread(target=_wait, args=(int(os.environ[LIFELINE]),), daemon=True).start()


def _wait(lifeline: int) -> None:
    """Wait until the parent is gone. Nobody writes to the pipe, so reading returns only when its other end closes."""
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def handing_on(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[Callable[[], int]]:
    """Forward each stop signal to all children, instead of stopping this process.

    Yields a function that returns the number of the first signal received, or 0.

    Arguments:
        children: the processes; the list may grow later. Processes that have ended receive nothing.
    """
    received: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        received.append(number)
        for child in children:
            child.send_signal(number)

    with handled_by(hand_on):
        yield lambda: received[0] if received else 0
