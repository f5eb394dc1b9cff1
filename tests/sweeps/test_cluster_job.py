"""A command as a job of a cluster, run by submitit on this machine."""

import os
import pickle
import signal
import sys
import threading
import time

import pytest
import submitit

from hebm.errors import HebmError
from hebm.sweeps import cluster_job
from hebm.sweeps.cluster_job import ClusterJob

SAVES = """
import os, pathlib, signal, sys, time
def save(number, frame):
    time.sleep(0.2)
    pathlib.Path("saved").touch()
    sys.exit(128 + number)
if pathlib.Path("saved").exists():
    print("resumed"); sys.exit()
signal.signal(signal.SIGTERM, save)
pathlib.Path("ready").write_text(str(os.getppid()))
time.sleep(60)
"""


def job(tmp_path, behaviour, trains=None):
    command = (sys.executable, "-S", "-c", behaviour)
    return ClusterJob(command, ("run", "x.toml"), tmp_path / "x" / "run.log", tmp_path, {"SEEN": "yes"}, trains)


def test_it_writes_to_the_log_of_the_run_and_gets_the_variables(tmp_path):
    made = pickle.loads(pickle.dumps(job(tmp_path, "import os; print(os.environ['SEEN'], os.getcwd())")))
    made()
    assert (tmp_path / "x" / "run.log").read_text() == f"$ hebm run x.toml\nyes {tmp_path}\n"


def test_a_failure_fails_the_job_unless_others_wait_for_what_is_trained(tmp_path, monkeypatch):
    with pytest.raises(HebmError, match=r"hebm run x.toml ended with status 3; see .*run.log"):
        job(tmp_path, "raise SystemExit(3)", trains=tmp_path / "x")()
    monkeypatch.setattr(cluster_job, "trained_anyway", lambda folder: True)
    job(tmp_path, "raise SystemExit(3)", trains=tmp_path / "x")()
    with pytest.raises(HebmError):
        job(tmp_path, "raise SystemExit(3)")()


def test_a_warning_lets_the_command_save_and_the_job_that_is_put_back_goes_on(tmp_path):
    """As submitit does, a handler calls `checkpoint` while the job waits for its command."""
    running = job(tmp_path, SAVES)

    def warned(number, frame):
        raise Requeued(running.checkpoint())

    before = signal.signal(signal.SIGUSR2, warned)
    threading.Thread(target=warn, args=(tmp_path, os.getpid()), daemon=True).start()
    try:
        with pytest.raises(Requeued) as caught:
            running()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert (tmp_path / "saved").exists()
    again = caught.value.args[0]
    pickle.loads(pickle.dumps(again)).result()
    assert (tmp_path / "x" / "run.log").read_text() == "$ hebm run x.toml\n$ hebm run x.toml\nresumed\n"


@pytest.mark.slow
def test_submitit_requeues_the_job_on_the_signal_of_a_cluster(tmp_path):
    executor = submitit.LocalExecutor(tmp_path / "queue", max_num_timeout=2)
    executor.update_parameters(timeout_min=2)
    started = executor.submit(job(tmp_path, SAVES))
    warn(tmp_path)
    started.result()
    assert (tmp_path / "x" / "run.log").read_text() == "$ hebm run x.toml\n$ hebm run x.toml\nresumed\n"


class Requeued(Exception):
    """What a job that goes back into the queue ends with here."""


def warn(folder, process=None):
    """Send the warning once the command runs, to a process or to the command's parent."""
    ready, end = folder / "ready", time.monotonic() + 60
    while not (ready.exists() and ready.read_text()):
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(process or int(ready.read_text()), signal.SIGUSR2)
