"""Rows that are computed once: each block when it is first asked for, kept, checked, and shared."""

import multiprocessing
import os
import shutil

import pytest
import torch

from hebm.errors import CheckpointError, ConfigError
from hebm.store import row_cache
from hebm.store.row_cache import RowCache, Trial
from hebm.store.rows import Column, Table

TABLE = Table({"u": Column((3,), torch.float32), "image": Column((1, 2, 2), torch.uint8)}, rows=10, block=4)


class Maker:
    """Computes rows from their numbers, and notes what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, first, count):
        self.asked.append((first, count))
        number = torch.arange(first, first + count)
        return {
            "u": number[:, None] + torch.tensor([0.0, 0.25, 0.5]),
            "image": number.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2),
        }


def expected(index):
    found = [Maker()(i, 1) for i in index]
    return {name: torch.cat([rows[name] for rows in found]) for name in ("u", "image")}


def opened(cache, make=None, table=TABLE, **parts):
    return cache.open("draws", table, parts or {"only": make or Maker()}, "train.posterior_draws")[0]


def same(rows, index):
    return all(torch.equal(rows[name], part) for name, part in expected(index).items())


@pytest.fixture(params=["memory", "files"])
def cache(request, tmp_path):
    return RowCache() if request.param == "memory" else RowCache(tmp_path / "draws", identity={"seed": 1})


def test_rows_are_those_that_were_computed_in_any_order_and_repeated(cache):
    assert same(opened(cache).take(torch.tensor([9, 0, 4, 4, 3])), [9, 0, 4, 4, 3])


def test_a_block_is_computed_once_and_only_if_one_of_its_rows_is_asked_for(cache):
    make = Maker()
    rows = opened(cache, make)
    for index in ([5, 6], [4], [9, 7], [8]):
        rows.take(torch.tensor(index))
    assert make.asked == [(4, 4), (8, 2)]


def test_what_was_kept_in_files_is_not_computed_again(tmp_path):
    first, second = Maker(), Maker()
    opened(RowCache(tmp_path), first).take(torch.arange(8))
    assert same(opened(RowCache(tmp_path), second).take(torch.arange(10)), range(10))
    assert second.asked == [(8, 2)]


@pytest.mark.parametrize("change", ["identity", "part", "rows", "block", "shape", "type", "what"])
def test_rows_that_depend_on_something_else_are_others(tmp_path, change):
    opened(RowCache(tmp_path, identity={"seed": 1}), a=Maker()).take(torch.arange(10))
    columns = dict(TABLE.columns)
    if change in ("shape", "type"):
        columns["u"] = Column((4,), torch.float32) if change == "shape" else Column((3,), torch.float64)
    rows, block = 11 if change == "rows" else 10, 5 if change == "block" else 4
    other = RowCache(tmp_path, identity={"seed": 2 if change == "identity" else 1})
    part = {"b" if change == "part" else "a": Maker()}
    other.open("others" if change == "what" else "draws", Table(columns, rows, block), part, "a key")
    assert len(list(tmp_path.iterdir())) == 2


def damage(folder, name, offset=0):
    with open(folder / name, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize(("name", "offset"), [("u.bin", 50), ("image.bin", 17), ("blocks", 16)])
def test_a_damaged_block_is_computed_again_and_the_others_are_not(tmp_path, name, offset):
    opened(RowCache(tmp_path)).take(torch.arange(10))
    (folder,) = tmp_path.iterdir()
    damage(folder, name, offset)
    for asked in ([(4, 4)], []):  # and is whole afterwards
        make = Maker()
        assert same(opened(RowCache(tmp_path), make).take(torch.arange(10)), range(10))
        assert make.asked == asked


def test_a_file_that_was_cut_or_removed_is_made_again(tmp_path):
    opened(RowCache(tmp_path)).take(torch.arange(10))
    (folder,) = tmp_path.iterdir()
    os.truncate(folder / "u.bin", 60)
    (folder / "image.bin").unlink()
    assert same(opened(RowCache(tmp_path)).take(torch.arange(10)), range(10))


def test_a_process_that_died_while_it_wrote_a_block_leaves_nothing_that_counts(tmp_path, monkeypatch):
    def dies(path, offset, data):
        if path.name == "blocks":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hebm.store.row_files._write_at", dies)
        with pytest.raises(KeyboardInterrupt):
            opened(RowCache(tmp_path)).take(torch.arange(2))
    assert same(opened(RowCache(tmp_path)).take(torch.arange(4)), range(4))


class Slow(Maker):
    """Takes a while, and writes to a file what it was asked for."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def __call__(self, first, count):
        with open(self.path, "a") as file:
            file.write(f"{first}\n")
        torch.ones(300, 300).matrix_power(30)
        return super().__call__(first, count)


def _take_all(folder, log, barrier):
    barrier.wait()
    assert same(opened(RowCache(folder), Slow(log)).take(torch.arange(10)), range(10))


def test_of_several_processes_one_computes_a_block_while_the_others_wait(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(3)
    arguments = tmp_path / "draws", tmp_path / "log", barrier
    processes = [context.Process(target=_take_all, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted((tmp_path / "log").read_text().split()) == ["0", "4", "8"]


# ---------------------------------------------------------------- room


def large(rows):
    return Table({"u": Column((1024, 256), torch.float32)}, rows)


def test_more_than_the_limit_is_an_error_that_states_the_need_and_leaves_nothing_behind(tmp_path):
    cache = RowCache(tmp_path, limit=0.5)
    with pytest.raises(ConfigError) as error:
        cache.open("posterior draws", large(1024), {"a": Maker(), "b": Maker()}, "train.posterior_draws")
    assert "2 × 1,024 posterior draws need 2 GiB (one row: u 1,048,576 bytes)" in str(error.value)
    assert "run.cache_limit is 0.5 GiB, of which 0 GiB are in use" in str(error.value)
    assert "or lower train.posterior_draws" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_what_others_use_counts_and_what_is_there_already_does_not_count_twice(tmp_path):
    cache = RowCache(tmp_path, limit=0.2)
    opened(cache, table=large(128))
    used = opened(cache, table=large(128))
    with pytest.raises(ConfigError, match=r"run\.cache_limit is 0\.2 GiB, of which 0\.125 GiB are in use; raise"):
        opened(cache.bound({"seed": 2}), table=large(128))
    assert len(list(tmp_path.iterdir())) == 1
    del used


def aged(folder, seconds):
    """Set the time of the last use."""
    for file in folder.iterdir():
        os.utime(file, (0, seconds))


def test_what_no_process_uses_makes_room_the_oldest_first(tmp_path):
    said, folders = [], []
    cache = RowCache(tmp_path, limit=0.4, say=said.append)
    for seed in range(3):
        opened(cache.bound({"seed": seed}), table=large(128))
        folders += set(tmp_path.iterdir()) - set(folders)
        aged(folders[seed], seed)
    opened(cache.bound({"seed": 0}), table=large(128))
    used = opened(cache.bound({"seed": 1}), table=large(128))
    aged(folders[1], 0)
    opened(cache.bound({"seed": 3}), table=large(128))
    assert [folder.exists() for folder in folders] == [True, True, False]
    assert said[-2] == f"deleted {folders[2]}, which no run uses, to make room"
    del used


def test_a_part_that_is_there_is_not_deleted_for_another_of_the_same_rows(tmp_path):
    cache = RowCache(tmp_path, limit=0.2)
    opened(cache, a=Maker(), table=large(128))
    with pytest.raises(ConfigError, match="are in use"):
        cache.open("draws", large(128), {"a": Maker(), "b": Maker()}, "a key")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_cleared_of_what_no_process_uses(tmp_path, monkeypatch):
    opened(RowCache(tmp_path)).take(torch.arange(10))
    free = 2**27 - 100  # what the new rows need, but for 100 bytes
    monkeypatch.setattr(row_cache.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**30, 2**30, free))
    opened(RowCache(tmp_path), table=large(128))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_disk_without_room_is_an_error_before_anything_is_computed(tmp_path, monkeypatch):
    usage = shutil._ntuple_diskusage(2**30, 2**30, 2**20)
    monkeypatch.setattr(row_cache.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ConfigError, match=r"the disk has 0\.000977 GiB left"):
        opened(RowCache(tmp_path), table=large(128))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot keep draws under .*file"):
        opened(RowCache(tmp_path / "file" / "draws"))


def test_what_will_be_stored_is_said_once(tmp_path):
    said = []
    cache = RowCache(tmp_path, say=said.append)
    for _ in range(2):
        cache.open("posterior draws", large(64), {"a": Maker(), "b": Maker()}, "a key")
    assert said == [f"stores 2 × 64 posterior draws (128 MiB) in {tmp_path}, as training uses them"]


def test_a_trial_checks_the_room_and_leaves_nothing_behind(tmp_path):
    cache = RowCache(tmp_path / "draws", limit=0.5, trial=Trial())
    assert same(opened(cache).take(torch.arange(10)), range(10))
    with pytest.raises(ConfigError, match=r"run\.cache_limit is 0\.5 GiB"):
        opened(cache, table=large(1024))
    assert list(tmp_path.iterdir()) == []
