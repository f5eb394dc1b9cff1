"""Whatever happens to a data worker, waiting for it ends with a message."""

import os
import time

import pytest
import torch
from torch.utils.data import Dataset

from hebm.data import workers
from hebm.data.workers import prepared, require_shared_memory
from hebm.errors import ConfigError, DataError


class Items(Dataset):
    """Four items, made by a function."""

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return self.make(i)


def ends_its_process(i):
    os._exit(3)


def takes_long(i):
    time.sleep(60)


def drawn(make):
    return list(prepared(Items(make), 1, seed=0, size=64, pin=False))


def test_items_come_in_order_and_leave_the_global_generator_alone():
    before = torch.get_rng_state()
    assert torch.equal(torch.stack(drawn(torch.tensor)), torch.arange(4))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_worker_that_ends_is_an_error_that_names_the_key():
    with pytest.raises(DataError, match=r"a data worker does not answer \(DataLoader worker .*lower data\.workers"):
        drawn(ends_its_process)


def test_a_worker_that_gives_nothing_is_an_error(monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 1.0)
    with pytest.raises(DataError, match=r"does not answer \(DataLoader timed out after 1\.0 seconds\)"):
        drawn(takes_long)


def test_too_little_shared_memory_is_an_error_before_anything_is_prepared(monkeypatch, tmp_path):
    free = workers.shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(workers, "SHARED", tmp_path)
    require_shared_memory(2, free // 6)
    with pytest.raises(ConfigError, match=r"data\.workers = 2 needs .* MiB of shared memory, .* --shm-size"):
        require_shared_memory(2, free)
    monkeypatch.setattr(workers, "SHARED", tmp_path / "nothing")  # not a Linux
    require_shared_memory(2, free)
