"""Tensors that can be made again: a file is whole, or it counts as missing."""

import pytest
import torch

from hebm.store.cached_tensors import read_cached, write_cached

TENSORS = {"features": torch.arange(6.0).reshape(2, 3), "finite": torch.tensor([True, False])}


def test_tensors_and_notes_come_back(tmp_path):
    path = tmp_path / "new folder" / "x.safetensors"
    assert write_cached(path, TENSORS, {"about": "a test"})
    tensors, notes = read_cached(path)
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert notes == {"about": "a test"}
    assert [file.name for file in path.parent.iterdir()] == ["x.safetensors"]


def test_a_missing_file_is_missing_without_a_word(tmp_path, caplog):
    assert read_cached(tmp_path / "x.safetensors") is None
    assert not caplog.text


@pytest.mark.parametrize(
    "change", [(b"a test", b"a pest"), (b"finite", b"finish"), (b"\x00\x00\x80?", b"\x00\x00\x80>")]
)
def test_a_changed_byte_anywhere_is_noticed(tmp_path, caplog, change):
    path = tmp_path / "x.safetensors"
    write_cached(path, TENSORS, {"about": "a test"})
    data = path.read_bytes()
    assert change[0] in data
    path.write_bytes(data.replace(*change))
    assert read_cached(path) is None
    assert "is damaged and will be computed again" in caplog.text


def test_a_place_that_cannot_be_written_to_is_told_and_no_error(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert not write_cached(tmp_path / "file" / "x.safetensors", TENSORS)
    assert "cannot be stored and will be computed again" in caplog.text
