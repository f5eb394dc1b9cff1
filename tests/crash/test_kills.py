"""R1, R2, R4, R7 on real processes of `hebm run`."""

import random
import signal
import time

import pytest
from real_runs import (
    differences,
    fork_server,
    hebm,
    lines_logged,
    log,
    merged,
    newest,
    steps_saved,
    tiny,
    train,
    wait_for,
    wait_for_lines,
    write_config,
)

from hebm.store.checkpoints import list_checkpoints, verify


def longer(steps):
    """Make a configuration with `steps` steps in each of two phases."""
    steps = {"backbone": {"steps": steps}, "prior": {"steps": steps}}
    return merged(tiny(), {"train": steps, "run": {"checkpoint_every": 10}})


def endless():
    return merged(longer(10**6), {"run": {"checkpoint_every": 10**6}})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of an uninterrupted run of 2 x 150 steps."""
    folder = tmp_path_factory.mktemp("whole") / "tiny"
    assert train(longer(150), folder)
    return folder


def kill_and_resume(folder, kills, seed, ahead):
    """Kill a run after random times of up to 2 s, but at most `ahead` steps further each time, and let it end."""
    chance, saved = random.Random(seed), 0
    config, run = write_config(folder, longer(150)), folder / "runs" / "tiny"
    for _ in range(kills):
        process = fork_server().hebm("run", config, "--runs", folder / "runs")
        end, last = time.monotonic() + chance.uniform(0.2, 2.0), lines_logged(run) + chance.randint(1, ahead)
        while time.monotonic() < end and lines_logged(run) < last:
            saved = max([saved, *steps_saved(run)])
            time.sleep(0.002)
        process.send(signal.SIGKILL)
        assert process.end() == -signal.SIGKILL, "the run was over before it was killed: the test proves nothing"
        if saved:
            assert newest(run).total_step >= saved
        assert [verify(path) for path in list_checkpoints(run / "checkpoints")] in ([], [[]], [[], []], [[], [], []])
    last = hebm("run", config, "--runs", folder / "runs")
    assert last.status == 0, last.stderr
    return run


def test_kill_9_at_6_random_moments_loses_nothing_and_changes_nothing(tmp_path, whole):
    assert differences(kill_and_resume(tmp_path, 6, 0, ahead=40), whole) == []


@pytest.mark.slow
def test_kill_9_at_20_random_moments_loses_nothing_and_changes_nothing(tmp_path, whole):
    assert differences(kill_and_resume(tmp_path, 20, 1, ahead=20), whole) == []


def test_a_second_run_on_the_same_folder_refuses_and_hurts_nobody(tmp_path):
    config = write_config(tmp_path, endless())
    first = fork_server().hebm("run", config, "--runs", tmp_path)
    wait_for_lines(tmp_path / "tiny", 3, first)
    second = hebm("run", config, "--runs", tmp_path)
    assert second.status == 1
    assert f"error: {tmp_path / 'tiny'} is in use by another run: process {first.pid}" in second.stderr
    assert "Traceback" not in second.stderr
    wait_for_lines(tmp_path / "tiny", len(log(tmp_path / "tiny")) + 3, first)
    first.send(signal.SIGKILL)
    first.end()
    third = fork_server().hebm("run", config, "--runs", tmp_path)
    wait_for(lambda: "backbone: step 0 of" in third.stderr, 30, third)
    third.send(signal.SIGKILL)
    third.end()


def test_a_changed_key_is_refused_by_name_and_allowed_when_asked_for(tmp_path):
    config = write_config(tmp_path, tiny())
    assert not train(tiny(), tmp_path / "tiny", stop_after=9)
    change = ("--set", "train.prior.learning_rate=0.002", "--set", "prior.sampler.steps=4")
    refused = hebm("run", config, "--runs", tmp_path, *change)
    assert refused.status == 1
    assert "train.prior.learning_rate: 0.001 → 0.002" in refused.stderr
    assert "prior.sampler.steps: 3 → 4" in refused.stderr
    assert "--allow-changes" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert newest(tmp_path / "tiny").total_step == 9
    allowed = hebm("run", config, "--runs", tmp_path, *change, "--allow-changes")
    assert allowed.status == 0, allowed.stderr
    assert [line["total_step"] for line in log(tmp_path / "tiny")] == list(range(1, 13))


def test_another_data_set_is_refused(tmp_path):
    config = write_config(tmp_path, tiny())
    assert not train(tiny(), tmp_path / "tiny", stop_after=2)
    refused = hebm("run", config, "--runs", tmp_path, "--set", "data.limit=500")
    assert refused.status == 1
    assert "data.limit" in refused.stderr
    assert "data fingerprint.train" in refused.stderr


def test_a_damaged_checkpoint_is_passed_over_with_a_word_and_costs_only_time(tmp_path):
    table, run = tiny(), tmp_path / "tiny"
    assert train(table, tmp_path / "whole")
    assert not train(table, run, stop_after=9)
    path = list_checkpoints(run / "checkpoints")[-1] / "prior.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    process = hebm("run", write_config(tmp_path, table), "--runs", tmp_path)
    assert process.status == 0
    assert "note: checkpoint passed over:" in process.stderr
    assert "prior.safetensors" in process.stderr
    assert "going back to step-00000008" in process.stderr
    assert differences(run, tmp_path / "whole") == []


def test_a_run_whose_checkpoints_are_all_damaged_never_starts_from_scratch(tmp_path):
    run = tmp_path / "tiny"
    assert not train(tiny(), run, stop_after=9)
    for path in list_checkpoints(run / "checkpoints"):
        (path / "manifest.json").write_text("")
    process = hebm("run", write_config(tmp_path, tiny()), "--runs", tmp_path)
    assert process.status == 1
    assert "no checkpoint in" in process.stderr
    assert "Traceback" not in process.stderr
    assert len(list_checkpoints(run / "checkpoints")) == 2
