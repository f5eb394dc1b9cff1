from __future__ import annotations

import fcntl
import os
import signal

import pytest
import torch

from hebm.errors import CheckpointError
from hebm.store import in_use
from hebm.store.caches import entries
from hebm.store.row_cache import RowCache
from hebm.store.rows import Column, Table

DAY = 86400
TABLE = Table({"u": Column((3,), torch.float32)}, 10)


@pytest.fixture
def cache(tmp_path):
    """A cache with stored draws and the weights of an extractor, which are older."""
    (tmp_path / "extractors").mkdir()
    weights = tmp_path / "extractors" / "classifier-1.safetensors"
    weights.write_bytes(bytes(5000))
    os.utime(weights, (0, 1000))
    RowCache(tmp_path / "draws", 1.0, {}).open("posterior draws", TABLE, {"all": None}, "")
    return tmp_path


def test_entries_have_kind_size_and_age_oldest_first(cache):
    first, second = entries(cache)
    assert (first.kind, first.path.name, first.size, first.changed) == (
        "extractors",
        "classifier-1.safetensors",
        5000,
        1000,
    )
    assert second.kind == "draws"
    assert second.changed > 1000


def test_holes_of_a_file_do_not_count(tmp_path):
    (tmp_path / "draws" / "a").mkdir(parents=True)
    with (tmp_path / "draws" / "a" / "u.bin").open("wb") as file:
        file.truncate(2**30)
    assert entries(tmp_path)[0].size < 2**20


def test_removed_entries_are_gone_and_others_stay(cache):
    entries(cache)[1].remove()
    assert [entry.kind for entry in entries(cache)] == ["extractors"]
    entries(cache)[0].remove()
    assert entries(cache) == []


def test_what_a_process_writes_to_stays(cache):
    draws = entries(cache)[1]
    with (draws.path / "lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(CheckpointError, match="is in use by a run; remove it when that has ended"):
            draws.remove()
    assert draws.path.exists()


def test_what_a_process_uses_stays_until_it_ends_even_if_another_forks(cache):
    (rows,) = RowCache(cache / "draws", 1.0, {}).open("posterior draws", TABLE, {"all": None}, "")
    draws = entries(cache)[1]
    child = os.fork()
    if not child:
        del rows
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(CheckpointError, match="is in use by a run"):
        draws.remove()
    del rows
    assert not list(draws.path.glob("used-by-*"))
    draws.remove()


def test_the_mark_of_a_killed_process_does_not_count_and_is_removed_at_the_next_use(cache):
    child = os.fork()
    if not child:
        rows = RowCache(cache / "draws", 1.0, {}).open("posterior draws", TABLE, {"all": None}, "")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    draws = entries(cache)[1]
    (left,) = draws.path.glob("used-by-*")
    assert not draws.in_use
    rows = RowCache(cache / "draws", 1.0, {}).open("posterior draws", TABLE, {"all": None}, "")
    assert not left.exists()
    assert draws.in_use
    del rows


def test_what_belongs_to_another_user_counts_as_used(cache, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    draws = entries(cache)[1]
    assert not draws.in_use
    monkeypatch.setattr(in_use, "free", refused)
    assert draws.in_use


def test_no_folder_is_no_entry(tmp_path):
    assert entries(tmp_path / "missing") == []
