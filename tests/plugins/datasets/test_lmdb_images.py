import sys
import types

import pytest
import torch

from hebm.data.batches import Batches
from hebm.errors import DataError
from hebm_plugins.datasets.torchvision_sets import LSUN


def test_without_the_package_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(DataError, match="pip install lmdb"):
        LSUN(root=str(tmp_path)).load("train")


def test_a_missing_database_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", types.ModuleType("lmdb"))
    with pytest.raises(DataError, match=r"tower_val_lmdb: database not found; .*data\.root and data\.category"):
        LSUN(root=str(tmp_path), category="tower").load("test")


def test_lsun_reads_its_databases_in_any_process_and_writes_nothing(tmp_path, encode, monkeypatch):
    lmdb = pytest.importorskip("lmdb")
    for split, n in (("train", 6), ("val", 2)):
        with lmdb.open(str(tmp_path / f"church_outdoor_{split}_lmdb"), map_size=1 << 20) as database:
            with database.begin(write=True) as transaction:
                for i in range(n):
                    transaction.put(f"key{i}".encode(), encode(40 * i, side=20, kind="WEBP"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    data = LSUN(root=str(tmp_path), size=16, batch_size=3, workers=1)
    train, test = data.load("train"), data.load("test")
    assert (len(train), len(test), train.shape) == (6, 2, (3, 16, 16))
    assert train.read(torch.arange(6)).mean((1, 2, 3)).diff().min() > 0
    batches = Batches(train, data, seed=0)
    for step, batch in enumerate(batches.iterate(0, 3)):
        assert torch.equal(batch.x, batches.batch(step).x)
    assert len(LSUN(root=str(tmp_path), limit=4).load("train")) == 4
    assert not list((tmp_path / "cwd").iterdir())
