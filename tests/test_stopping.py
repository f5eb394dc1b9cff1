"""Signals that ask to save and stop, and a terminal that is closed."""

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from hebm.stopping import Interrupted, interrupted_by_signals, stop_on_signals

WAITS = """
import sys, time
from hebm.stopping import stop_on_signals
with stop_on_signals() as stop:
    print("ready", flush=True)
    end = time.monotonic() + 30
    while not stop() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.1)  # saving takes a while, in which a second SIGHUP may come
    print("said on a terminal that is gone", flush=True)
    print("and as a note", file=sys.stderr, flush=True)
open(sys.argv[1], "w").write(str(stop()))
"""


@pytest.fixture(autouse=True)
def _hangups_are_not_ignored():
    """Restore the default action of SIGHUP, which these tests and their processes inherit as ignored under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_hangup_asks_to_stop_and_may_come_twice():
    before = signal.getsignal(signal.SIGHUP)
    with stop_on_signals() as stop:
        assert stop() == 0
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop() == signal.SIGHUP
    assert signal.getsignal(signal.SIGHUP) == before


def test_a_hangup_that_is_ignored_as_under_nohup_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_work_that_is_always_safe_is_interrupted_at_once(number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught, interrupted_by_signals():
        os.kill(os.getpid(), number)
    assert caught.value.signal == number
    assert not isinstance(caught.value, Exception)
    assert signal.getsignal(number) == before


def test_another_signal_that_comes_twice_ends_the_process(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WAITS, tmp_path / "saved"], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    time.sleep(0.03)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == -signal.SIGTERM
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("times", [1, 2])
def test_a_process_whose_terminal_is_closed_saves_and_ends_in_order(tmp_path, times):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", WAITS, str(tmp_path / "saved")])
    assert b"ready" in os.read(terminal, 100)
    os.close(terminal)  # the kernel sends SIGHUP; a shell that ends sends another one
    if times == 2:
        time.sleep(0.03)
        os.kill(pid, signal.SIGHUP)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (tmp_path / "saved").read_text() == str(int(signal.SIGHUP))
