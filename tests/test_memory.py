"""Out of memory is an error of the configuration, which names what was done and what needs less."""

import os
import platform
import subprocess
import sys

import pytest
import torch
from real_runs import tiny, write_config

from hebm import building, memory
from hebm.config.experiment import Experiment
from hebm.errors import DataError
from hebm.interfaces import ImageSpec
from hebm.memory import OutOfMemory, available_memory, explaining_memory, is_out_of_memory, machine_memory

ERRORS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory\nmore"),
]


@pytest.mark.parametrize("error", ERRORS)
def test_running_out_of_memory_says_what_was_done_and_what_to_change(error):
    with pytest.raises(OutOfMemory, match=r"^out of memory while it rains \(.+\); take an umbrella$") as raised:
        with explaining_memory("it rains", "take an umbrella"):
            raise error
    assert raised.value.exit_status == 2
    assert "more" not in str(raised.value)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), DataError("no memory of it"), KeyError("memory")])
def test_other_errors_pass_unchanged(error):
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)) as raised, explaining_memory("it rains", "take an umbrella"):
        raise error
    assert raised.value is error


def experiment(tmp_path, **changes):
    return Experiment.load(write_config(tmp_path, tiny()), changes)


IMAGES = ImageSpec(1, 8, 8)


def test_weights_that_cannot_fit_are_refused_before_anything_is_allocated(tmp_path):
    wide = experiment(tmp_path, **{"prior.energy.width": 10**6, "prior.energy.depth": 2})
    with pytest.raises(OutOfMemory, match=r"take 7,4\d\d\.\d GiB, this machine has .*prior\.energy\.width = 1000000"):
        building.build(wide, IMAGES)
    huge = experiment(tmp_path, **{"prior.energy.width": 2**31 - 1, "prior.energy.depth": 2})
    with pytest.raises(OutOfMemory, match=r"take more bytes than can be counted, this machine has \d.* GiB available"):
        building.build(huge, IMAGES)


def test_the_limit_of_the_machine_decides(tmp_path, monkeypatch):
    small = experiment(tmp_path)
    building.build(small, IMAGES)
    monkeypatch.setattr(building, "available_memory", lambda: 1000)
    with pytest.raises(
        OutOfMemory, match=r"this machine has 0\.0 GiB available; make them smaller; the largest numbers are "
    ):
        building.build(small, IMAGES)
    monkeypatch.setattr(building, "available_memory", lambda: None)  # a system that does not say
    building.build(small, IMAGES)


def test_the_smallest_limit_counts(monkeypatch):
    assert machine_memory() > 1e8
    monkeypatch.setattr(memory, "_of_the_process", lambda: 10**6)
    assert machine_memory() == available_memory() == 10**6


def test_memory_that_others_use_is_not_available(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_MEMINFO", file := tmp_path / "meminfo")
    assert available_memory() == machine_memory()  # a system without this file
    file.write_text("MemTotal:  9000 kB\nMemAvailable:    2000 kB\nSwapTotal: 5000 kB\nSwapFree:   48 kB\n")
    assert available_memory() == 2048 * 1024


def test_counting_weights_changes_no_random_number(tmp_path):
    small = experiment(tmp_path)
    first = building.build(small, IMAGES).state_dict()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    second = building.build(small, IMAGES).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)


FAULTS = """
import resource, torch
from hebm.memory import keep_freed_memory
{call}
def step():
    [torch.ones(2**20) for _ in range(40)]
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these thresholds")
def test_the_tensors_of_a_step_reuse_the_memory_of_the_step_before():
    """40 tensors of 4 MiB have 40,960 pages of 4 KiB, ten steps ten times as many."""

    def faults(call, **environment):
        command, env = [sys.executable, "-c", FAULTS.format(call=call)], os.environ | environment
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    assert faults("keep_freed_memory()") < 20_000
    assert faults("keep_freed_memory()", MALLOC_TRIM_THRESHOLD_="131072") > 400_000
