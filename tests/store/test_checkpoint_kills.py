"""R1 and R3 by real processes that save in the background: kill -9 at random moments, and a limit on file sizes."""

import multiprocessing
import os
import random
import resource
import time

import pytest
import torch

from hebm.errors import CheckpointError
from hebm.store.checkpoint_writer import CheckpointWriter
from hebm.store.checkpoints import Checkpoint, list_checkpoints, load_latest, save, verify

RUN = "a" * 32


@pytest.fixture(scope="module")
def processes():
    """Processes forked from a server that has loaded torch: real ones, without two seconds of import each."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "hebm.store.checkpoint_writer"])
    return context


def weights(step, size):
    generator = torch.Generator().manual_seed(step)
    return {"backbone": {"w": torch.randn(size, generator=generator)}, "ema": {"w": torch.full((size,), float(step))}}


def train(folder, report, size, steps):
    """Resume, then save every step in the background, reporting each on its own line once it is saved."""
    found = load_latest(folder, RUN, print)
    step = 0 if found is None else found.total_step
    with open(report, "ab", buffering=0) as out:

        def write(checkpoint):
            save(folder, checkpoint, 2, RUN)
            out.write(b"%d\n" % checkpoint.step)

        writer = CheckpointWriter(write)
        for now in range(step + 1, step + steps + 1):
            live = weights(now, size)
            writer.start(Checkpoint("prior", now, now, live, {"step": now}))
            for tensors in live.values():
                tensors["w"].fill_(torch.nan)  # the next step of training


def last_reported(report):
    lines = report.read_bytes().split(b"\n")[:-1] if report.exists() else []
    return int(lines[-1]) if lines else 0


def kill_at_random_moments(processes, folder, kills, seed):
    report, chance = folder / "reported", random.Random(seed)
    for _ in range(kills):
        before = last_reported(report)
        process = processes.Process(target=train, args=(folder / "c", report, 30_000, 10**6))
        process.start()
        while last_reported(report) == before:
            assert process.is_alive()
            time.sleep(0.001)
        time.sleep(chance.random() * 0.03)
        process.kill()
        process.join()
        yield last_reported(report)


def check_after_kills(processes, folder, kills, seed):
    rubbish = 0
    for reported in kill_at_random_moments(processes, folder, kills, seed):
        found = load_latest(folder / "c", RUN, pytest.fail)
        assert found.total_step >= reported
        assert found.state == {"step": found.total_step}
        want = weights(found.total_step, 30_000)
        assert all(torch.equal(found.tensors[stem]["w"], want[stem]["w"]) for stem in want)
        assert [verify(path, RUN) for path in list_checkpoints(folder / "c")] in ([[]], [[], []], [[], [], []])
        rubbish += any(name.startswith(".tmp-") for name in os.listdir(folder / "c"))
    return rubbish


def test_kill_9_at_20_random_moments_loses_nothing_that_was_reported_as_saved(tmp_path, processes):
    rubbish = check_after_kills(processes, tmp_path, kills=20, seed=0)
    assert rubbish > 0, "no kill hit a save: the test proves nothing"


@pytest.mark.slow
def test_kill_9_at_200_random_moments_loses_nothing_that_was_reported_as_saved(tmp_path, processes):
    assert check_after_kills(processes, tmp_path, kills=200, seed=1) > 20


def save_under_limit(folder, answers):
    """Files may have 64 KiB at most, as on a disk that fills up in the middle of one."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
    writer = CheckpointWriter(lambda checkpoint: save(folder, checkpoint, 2, RUN))
    writer.start(Checkpoint("prior", 2, 2, weights(2, 30_000)))
    try:
        writer.start(Checkpoint("prior", 3, 3, weights(3, 30_000)))
    except CheckpointError as error:
        answers.send(str(error))


def test_a_disk_that_fills_up_in_a_file_is_a_clear_error_and_the_last_good_one_is_whole(tmp_path, processes):
    save(tmp_path, Checkpoint("prior", 1, 1, weights(1, 30_000)), 2, RUN)
    here, there = processes.Pipe(duplex=False)
    process = processes.Process(target=save_under_limit, args=(tmp_path, there))
    process.start()
    assert here.poll(60)
    assert "cannot save step 2" in here.recv()
    process.join()
    assert process.exitcode == 0
    assert load_latest(tmp_path, RUN, pytest.fail).total_step == 1
    assert os.listdir(tmp_path) == ["step-00000001"]
