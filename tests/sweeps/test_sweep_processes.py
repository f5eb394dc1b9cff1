"""Runs of a sweep as processes; a small script stands in for `hebm`."""

import os
import signal
import threading
import time

import pytest
from small_sweeps import VARIANTS, planned, stand_in

from hebm.sweeps import processes
from hebm.sweeps.processes import Processes


def ran(tmp_path, behaviour, jobs=1, text=VARIANTS, stages=None):
    """(how each run ended by name, the signal, what was said)."""
    runs, said = planned(tmp_path, text), []
    stages = {**{run.name: "new" for run in runs}, **(stages or {})}
    ended, stopped = Processes(runs, stages, jobs, said.append, stand_in(tmp_path, behaviour)).run()
    return {end.run.name: end for end in ended}, stopped, said


def states(ended):
    return {name: end.state for name, end in ended.items()}


def test_a_run_that_fails_stops_only_those_that_need_its_backbone(tmp_path):
    fails = "if name == 'small-joint-0':\n    print('epoch 1\\nerror: no space\\n  on the disk')\n    sys.exit(1)"
    ended, stopped, said = ran(tmp_path, fails)
    assert states(ended) == {
        "small-joint-0": "failed",
        "small-gaussian-0": "skipped",
        "small-joint-1": "finished",
        "small-gaussian-1": "finished",
    }
    assert (ended["small-joint-0"].reason, stopped) == ("no space\n  on the disk", 0)
    log = tmp_path / "runs" / "small-joint-0" / "run.log"
    assert log.read_text().startswith("$ hebm run ")
    assert any(f"no space\n  on the disk\n  log: {log}" in line for line in said)
    assert "skipped small-gaussian-0: it takes the backbone of small-joint-0" in said


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("raise ZeroDivisionError('a bug')", "ZeroDivisionError: a bug"),
        ("os.kill(os.getpid(), 9)", "stopped by SIGKILL"),
        ("sys.exit(128 + 15)", "stopped by SIGTERM"),
        ("sys.exit(7)", "exit status 7"),
    ],
)
def test_the_reason_of_a_failure_is_what_the_process_said_or_how_it_ended(tmp_path, behaviour, reason):
    one = VARIANTS.partition("[variants.gaussian]")[0].replace("[0, 1]", "[0]")
    ended, *_ = ran(tmp_path, behaviour, text=one)
    assert [end.reason for end in ended.values()] == [reason]


def test_a_failure_after_training_does_not_keep_the_backbone_from_others(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "trained_anyway", lambda folder: True)
    ended, *_ = ran(tmp_path, "sys.exit(name == 'small-joint-0')")
    assert states(ended)["small-joint-0"] == "failed"
    assert states(ended)["small-gaussian-0"] == "finished"


def test_finished_runs_are_not_started_and_trained_ones_give_their_backbone_at_once(tmp_path):
    ended, _, said = ran(tmp_path, "", stages={"small-joint-0": "finished", "small-joint-1": "trained"}, jobs=4)
    assert set(states(ended).values()) == {"finished"}
    started = [line.split()[1] for line in said if line.startswith("started")]
    assert started == ["small-gaussian-0", "small-joint-1", "small-gaussian-1"]
    assert not (tmp_path / "runs" / "small-joint-0").exists()
    assert [line.split()[0] for line in said[:3]] == ["started"] * 3


def test_runs_at_the_same_time_have_a_gpu_and_a_share_of_the_cores_each(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    where = tmp_path / "seen"
    keys = "os.environ['CUDA_VISIBLE_DEVICES'], os.environ['OMP_NUM_THREADS']"
    ran(tmp_path, f"open({str(where)!r}, 'a').write(' '.join([name, {keys}]) + '\\n'); time.sleep(0.3)", jobs=2)
    seen = dict(line.split(maxsplit=1) for line in where.read_text().splitlines())
    assert (seen["small-joint-0"], seen["small-joint-1"]) == ("3 3", "5 3")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_a_signal_reaches_the_running_processes_and_starts_no_others(tmp_path, number):
    """As `hebm run` does, the stand-in ends with 128 + n."""
    ready = tmp_path / "ready"
    waits = (
        f"number = {int(number)}\nsignal.signal(number, lambda *_: sys.exit(128 + number))\n"
        f"open({str(ready)!r}, 'w').close()\ntime.sleep(30)"
    )

    def send():
        while not ready.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()
    before = signal.getsignal(number)
    ended, stopped, _ = ran(tmp_path, waits)
    assert stopped == number
    assert set(states(ended).values()) == {"stopped"}
    assert len(list((tmp_path / "runs").iterdir())) == 1
    assert signal.getsignal(number) is before
