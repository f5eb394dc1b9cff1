"""R4: one process a run folder, by real processes."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from hebm.errors import CheckpointError
from hebm.store.lock import RunLock

HOLD = """
import sys, time
from pathlib import Path
from hebm.store.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

FORK = """
import os, sys, time
from pathlib import Path
from hebm.store.lock import RunLock
with RunLock(Path(sys.argv[1])):
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(60)
        os._exit(0)
    sys.stdin.read()
"""


def start(code, folder):
    child = subprocess.Popen(
        [sys.executable, "-c", code, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    child.first = child.stdout.readline().strip()
    assert child.first
    return child


@pytest.fixture
def holder(tmp_path):
    with start(HOLD, tmp_path) as child:
        yield child
        child.kill()


def test_a_second_run_is_refused_and_told_who_is_at_work(tmp_path, holder):
    with pytest.raises(CheckpointError) as caught, RunLock(tmp_path):
        pass
    assert f"process {holder.pid} on {socket.gethostname()}, since 20" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_second_process_is_refused_while_this_one_holds_it(tmp_path):
    with RunLock(tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", HOLD, tmp_path], input="", capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert re.search(rf"CheckpointError.*process {os.getpid()} ", done.stderr)


def test_the_lock_of_a_process_killed_by_9_is_taken_over(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with RunLock(tmp_path):
        assert str(os.getpid()) in (tmp_path / "run.lock").read_text()


def test_the_lock_is_free_after_its_holder_has_ended(tmp_path, holder):
    holder.communicate()
    with RunLock(tmp_path):
        pass


def test_a_forked_worker_that_outlives_its_killed_parent_does_not_keep_the_lock(tmp_path):
    with start(FORK, tmp_path) as child:
        worker = int(child.first)
        with pytest.raises(CheckpointError), RunLock(tmp_path):
            pass
        child.kill()
        child.wait()
        try:
            os.kill(worker, 0)  # still alive
            with RunLock(tmp_path):
                pass
        finally:
            os.kill(worker, signal.SIGKILL)


def test_a_forked_worker_that_ends_does_not_release_its_parents_lock(tmp_path):
    with RunLock(tmp_path):
        worker = os.fork()
        if worker == 0:
            os._exit(0)
        os.waitpid(worker, 0)
        with pytest.raises(CheckpointError), RunLock(tmp_path):
            pass


def test_an_error_inside_releases_the_lock(tmp_path):
    with pytest.raises(KeyError), RunLock(tmp_path):
        raise KeyError
    with RunLock(tmp_path):
        pass


def test_a_dead_processs_lock_file_with_any_content_is_no_obstacle(tmp_path):
    for content in (b"", b"rubbish", b'{"pid": 1, "host": "elsewhere", "since": "long ago"}', b"\xff" * 9000):
        (tmp_path / "run.lock").write_bytes(content)
        with RunLock(tmp_path):
            pass


def test_a_holder_that_has_not_yet_written_its_name_is_respected(tmp_path, holder):
    (tmp_path / "run.lock").write_bytes(b"")
    with pytest.raises(CheckpointError, match="just started"), RunLock(tmp_path):
        pass


def test_of_many_that_start_at_once_one_wins(tmp_path):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=-3
        )
        for _ in range(4)
    ]
    deadline = time.monotonic() + 30
    while sum(child.poll() is None for child in children) > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sum(child.poll() is None for child in children) == 1
    won = [child.communicate()[0].split() for child in children]
    assert sorted(won) == [[], [], [], [b"held"]]


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(CheckpointError, match="cannot lock"), RunLock(tmp_path / "missing"):
        pass


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links are followed here")
@pytest.mark.parametrize("kind", ["a link to a file", "a link to nothing", "a link to a device", "a pipe"])
def test_a_lock_that_leads_elsewhere_is_refused_by_name_and_nothing_is_written_there(tmp_path, kind):
    run, outside = tmp_path / "run", tmp_path / "outside"
    run.mkdir()
    if kind == "a link to a file":
        outside.write_text("mine")
    if kind == "a pipe":
        os.mkfifo(run / "run.lock")
    else:
        (run / "run.lock").symlink_to("/dev/null" if kind == "a link to a device" else outside)
    with pytest.raises(CheckpointError, match=r"cannot lock .*run\.lock"), RunLock(run):
        pass
    assert not outside.exists() or outside.read_text() == "mine"
