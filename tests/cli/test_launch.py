"""Several processes on this machine: really started, signalled together, ended together, one voice."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import poisons
import pytest
from real_runs import (
    differences,
    fork_server,
    hebm,
    in_two_processes,
    install,
    log,
    merged,
    newest,
    tiny,
    train,
    wait_for,
    wait_for_lines,
    write_config,
)

from hebm.cli import launch
from hebm.store.lock import RunLock

CHILDREN = Path("/proc/self/task").exists()


def in_python(source, processes=2):
    return launch._run(
        [sys.executable, "-c", f"import os, sys, time; rank = int(os.environ['RANK']); {source}"], processes
    )


def test_every_process_gets_a_rank_and_one_place_to_meet(tmp_path):
    keys = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    source = f"import json; json.dump([os.environ[k] for k in {keys}], open('{tmp_path}/' + str(rank), 'w'))"
    assert in_python(source, 3) == 0
    found = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(3)]
    assert [f[:4] for f in found] == [[str(rank), str(rank), "3", "3"] for rank in range(3)]
    assert len({tuple(f[4:]) for f in found}) == 1


def test_the_first_failure_ends_the_others_and_gives_its_status(monkeypatch):
    monkeypatch.setattr(launch, "GRACE", 0.2)
    assert in_python("time.sleep(60) if rank else sys.exit(3)") == 3


def test_a_process_that_will_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(launch, "GRACE", 0.2)
    deaf = "import signal; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    assert in_python(f"exec({deaf!r}) if rank else (time.sleep(0.3), os.kill(os.getpid(), 9))") == 137


def test_the_option_is_left_out_of_the_command_that_is_started():
    arguments = ["run", "a.toml", "--processes", "2", "--set", "x=1", "--processes=2"]
    assert launch._without_processes(arguments) == ["run", "a.toml", "--set", "x=1"]


# ---------------------------------------------------------------- real runs in two processes


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not CHILDREN, reason="finds processes in /proc")
def test_two_processes_survive_signals_and_kills_and_end_as_if_nothing_had_been(tmp_path):
    table = merged(
        tiny(), {"train": {"backbone": {"steps": 60}, "prior": {"steps": 60}}, "run": {"checkpoint_every": 20}}
    )
    config, run = write_config(tmp_path, table), tmp_path / "tiny"

    def start(lines):
        process = fork_server().hebm("run", config, "--runs", tmp_path, "--processes", "2")
        wait_for_lines(run, lines, process)
        return process, children(process.pid)

    process, ranks = start(5)
    assert len(ranks) == 2
    process.send(signal.SIGTERM)
    assert process.end() == 128 + signal.SIGTERM, process.stderr
    assert newest(run).total_step == log(run)[-1]["total_step"]
    assert process.stderr.count("note: stopped by signal 15") == 1

    process, ranks = start(len(log(run)) + 10)
    process.send(signal.SIGKILL)  # the launcher alone: its processes must notice
    wait_for(lambda: not any(os.path.exists(f"/proc/{rank}") for rank in ranks), 30)
    saved = newest(run).total_step
    assert saved == log(run)[-1]["total_step"]

    argument = ["run", str(config), "--runs", str(tmp_path)]
    processes = fork_server().world("fork_server:cli", argument)
    wait_for_lines(run, saved + 10, processes[0])
    processes[1].send(signal.SIGKILL)
    assert [process.end() for process in processes] == [1, -signal.SIGKILL]
    assert "error: another process of this run has died; start the run again" in processes[0].stderr
    assert "Traceback" not in processes[0].stderr

    processes = fork_server().world("fork_server:cli", argument)
    assert [process.end() for process in processes] == [0, 0], processes[0].stderr
    in_two_processes(table, tmp_path / "whole")
    assert differences(run, tmp_path / "whole") == []


@pytest.mark.slow
def test_accelerate_launch_starts_two_processes_on_a_cpu(tmp_path):
    """Not by --cpu, which starts one whatever is asked for: that is refused rather than trained on half the data."""
    config = write_config(tmp_path, tiny())
    accelerate = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--num_processes", "2"]
    command = ["-m", "hebm.cli.main", "run", str(config), "--runs", str(tmp_path)]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([*accelerate, "--multi_gpu", *command], env=environ, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    in_two_processes(tiny(), tmp_path / "whole")
    assert differences(tmp_path / "tiny", tmp_path / "whole") == []
    ran = hebm(*command[2:], ACCELERATE_USE_CPU="True", MASTER_PORT="29500")
    assert ran.status == 2
    assert "error: accelerate launch started one process although several were requested" in ran.stderr


def test_samples_of_two_processes_are_bit_equal_to_those_of_one(tmp_path):
    assert train(tiny(), tmp_path / "tiny")
    arguments = ("sample", tmp_path / "tiny", "-n", "200", "--batch-size", "64", "-o")
    assert hebm(*arguments, tmp_path / "one.npz").status == 0
    two = hebm(*arguments, tmp_path / "two.npz", "--processes", "2")
    assert two.status == 0, two.stderr
    import numpy as np

    one, other = (np.load(tmp_path / name)["images"] for name in ("one.npz", "two.npz"))
    assert one.shape == (200, 8, 8, 1)
    assert np.array_equal(one, other)


# ---------------------------------------------------------------- errors, once


def in_world(config, tmp_path, path=()):
    processes = fork_server().world("fork_server:cli", ["run", str(config), "--runs", str(tmp_path)], path=path)
    statuses = [process.end() for process in processes]
    return statuses, "".join(process.stderr for process in processes)


def test_a_folder_in_use_is_said_once_and_ends_every_process(tmp_path):
    (tmp_path / "tiny").mkdir()
    with RunLock(tmp_path / "tiny"):
        statuses, said = in_world(write_config(tmp_path, tiny()), tmp_path)
    assert statuses == [1, 1]
    assert said.count("error:") == said.count("is in use by another run") == 1


def test_a_configuration_that_does_not_fit_is_said_once_and_ends_every_process(tmp_path):
    config = write_config(tmp_path, tiny(data={"batch_size": 127}))
    statuses, said = in_world(config, tmp_path)
    assert statuses == [2, 2]
    assert said.count("error:") == said.count("does not divide among 2 processes") == 1


def test_an_error_of_one_process_alone_ends_all_with_its_message(tmp_path):
    source = Path(poisons.__file__).read_text()
    path = install(tmp_path / "site", "hebm_datasets", "late-error", "poisons_data:LateError", source)
    table = merged(tiny(), {"data": {"type": "late-error"}})
    statuses, said = in_world(write_config(tmp_path, table), tmp_path, [path])
    assert statuses == [1, 1]
    assert said.count("error:") == said.count("image-17.png is damaged") == 1
    assert "Traceback" not in said
