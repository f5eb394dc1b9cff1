"""Child processes of hebm: they get the signals of their parent, and save and stop if it dies."""

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
"""Environment variable of a child: the descriptor of a pipe whose other end its parent holds."""


@attrs.frozen
class Lifeline:
    """What a parent gives to its children: a pipe that ends when the parent does.

    Arguments:
        descriptor: that children inherit; None on Windows, where they cannot.
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
    """Make a pipe whose other end this process holds, and yield what children are given of it."""
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
    """Let this process save and stop when its parent dies, if it has a parent that holds a lifeline."""
    if LIFELINE in os.environ:
        threading.Thread(target=_wait, args=(int(os.environ[LIFELINE]),), daemon=True).start()


def _wait(lifeline: int) -> None:
    """Wait on a pipe that nobody writes to: reading returns when the parent, which holds its other end, is gone."""
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def handing_on(children: Sequence[subprocess.Popen[bytes]]) -> Iterator[Callable[[], int]]:
    """Send each signal that asks hebm to stop to all children, instead of stopping this process.

    Yields a function that returns the number of the first signal received, or 0.

    Arguments:
        children: may grow meanwhile; those that have ended get nothing.
    """
    received: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        received.append(number)
        for child in children:
            child.send_signal(number)

    with handled_by(hand_on):
        yield lambda: received[0] if received else 0
