"""Turn signals into a request to save and stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))
"""Signals that ask a run to save and stop; a cluster warns by the last two, which not every system has."""


Handler = Callable[[int, FrameType | None], None]


@contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Give the signals of `STOPPING` to a handler for a while.

    Outside of the main thread, which alone receives signals, nothing is changed.
    """
    main = threading.current_thread() is threading.main_thread()
    previous: dict[int, Any] = {number: signal.signal(number, handler) for number in (STOPPING if main else ())}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], int]]:
    """Make the first signal of `STOPPING` ask training to save and stop; a second one does what it usually does.

    Yields a function that returns the number of the signal received, or 0.
    """
    received: list[int] = []
    usual = {number: signal.getsignal(number) for number in STOPPING}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, usual[number])

    with handled_by(note):
        yield lambda: received[0] if received else 0
