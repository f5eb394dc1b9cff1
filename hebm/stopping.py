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
"""Signals that make a run save and stop. Clusters warn by SIGUSR1 or SIGUSR2; a closing terminal sends SIGHUP."""

_HANGUP: int | None = getattr(signal, "SIGHUP", None)
_OUTPUT = (1, 2)

Handler = Callable[[int, FrameType | None], None]


@contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Call `handler` for the signals of `STOPPING` inside the context.

    SIGHUP stays ignored if it already is, as under `nohup`. Outside of the main thread, which alone receives signals,
    this changes nothing.
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
    """Redirect output from terminals that are gone to the null device, since writing to them would raise an error."""
    for stream in terminals:
        if not _is_terminal(stream):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], int]]:
    """Make the first signal of `STOPPING` request that training saves and stops; a second one has its usual effect.

    A second SIGHUP has no effect, since a closing terminal often sends it twice.

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
    """A signal of `STOPPING` arrived. It is not an `Exception`, so that error handlers do not catch it.

    Arguments:
        signal: its number.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(f"signal {signal}")
        self.signal = signal


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Raise `Interrupted` in the context at the first signal of `STOPPING`; a second one has its usual effect.

    Use it for work whose results are safe on disk at any moment. A second SIGHUP has no effect.
    """
    usual = {number: signal.getsignal(number) for number in STOPPING}
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        if received:  # only a second SIGHUP gets here
            return
        received.append(number)
        for other in STOPPING:
            if other != _HANGUP:
                signal.signal(other, usual[other])
        raise Interrupted(number)

    with handled_by(interrupt):
        yield
