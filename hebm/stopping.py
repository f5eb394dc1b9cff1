"""Turn signals into a request to save and stop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

_NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2")
STOPPING = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""Signals that ask a run to save and stop, where the system has them: a cluster warns by SIGUSR1 or SIGUSR2, and a
terminal that is closed sends SIGHUP."""

_HANGUP: int | None = getattr(signal, "SIGHUP", None)
_OUTPUT = (1, 2)

Handler = Callable[[int, FrameType | None], None]


@contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Give the signals of `STOPPING` to a handler for a while.

    SIGHUP stays ignored where it is, as under `nohup`. Outside of the main thread, which alone receives signals,
    nothing is changed.
    """
    terminals = [stream for stream in _OUTPUT if _is_terminal(stream)]

    def handle(number: int, frame: FrameType | None) -> None:
        if number == _HANGUP:
            _leave(terminals)
        handler(number, frame)

    main = threading.current_thread() is threading.main_thread()
    listened = [number for number in (STOPPING if main else ()) if not _ignored_hangup(number)]
    previous: dict[int, Any] = {number: signal.signal(number, handle) for number in listened}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def _ignored_hangup(number: int) -> bool:
    return number == _HANGUP and signal.getsignal(number) == signal.SIG_IGN


def _is_terminal(stream: int) -> bool:
    try:
        return os.isatty(stream)
    except OSError:  # it is closed
        return False


def _leave(terminals: Sequence[int]) -> None:
    """Send output to nowhere that went to a terminal which is gone: writing there would be an error."""
    for stream in terminals:
        if not _is_terminal(stream):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], int]]:
    """Make the first signal of `STOPPING` ask training to save and stop; a second one does what it usually does.

    Only SIGHUP may come again: a terminal that is closed often sends it twice.

    Yields a function that returns the number of the signal received, or 0.
    """
    received: list[int] = []
    usual = {number: signal.getsignal(number) for number in STOPPING}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if number != _HANGUP:
            signal.signal(number, usual[number])

    with handled_by(note):
        yield lambda: received[0] if received else 0


class Interrupted(BaseException):
    """A signal of `STOPPING` arrived. Not an `Exception`: nothing that handles errors may keep it.

    Arguments:
        signal: its number.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(f"signal {signal}")
        self.signal = signal


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Raise `Interrupted` inside at the first signal of `STOPPING`; a second one does what it usually does.

    For work whose results are safe on the disk at any moment. A second SIGHUP changes nothing.
    """
    usual = {number: signal.getsignal(number) for number in STOPPING}
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if received:  # only SIGHUP comes here twice
            return
        received.append(number)
        for other in STOPPING:
            if other != _HANGUP:
                signal.signal(other, usual[other])
        raise Interrupted(number)

    with handled_by(interrupt):
        yield
