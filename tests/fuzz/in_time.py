"""A limit of time for one example, so that one that hangs is a failure."""

import signal
from contextlib import contextmanager

LONGEST = 60
"""Seconds that an example may take."""


@contextmanager
def in_time():
    def too_long(*_):
        raise TimeoutError(f"longer than {LONGEST} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(LONGEST)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
