"""Files are replaced whole or not at all."""

import errno
import os

import pytest

from hebm.errors import CheckpointError
from hebm.store import durable


def test_a_replaced_file_has_the_new_content_and_leaves_nothing_else(tmp_path):
    durable.replace_file(tmp_path / "a", b"one")
    durable.replace_file(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_replacement_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch, call):
    durable.replace_file(tmp_path / "a", b"one")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        durable.replace_file(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["a"]


def test_a_new_file_never_overwrites(tmp_path):
    durable.write_file(tmp_path / "a", b"one")
    with pytest.raises(FileExistsError):
        durable.write_file(tmp_path / "a", b"two")


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / ".tmp-folder").mkdir()
    (tmp_path / ".tmp-folder" / "x").write_text("x")
    (tmp_path / ".tmp-file").write_text("x")
    (tmp_path / "kept").write_text("x")
    durable.remove_unfinished(tmp_path)
    assert os.listdir(tmp_path) == ["kept"]


def test_a_file_that_is_written_again_removes_what_killed_attempts_left_and_no_more(tmp_path):
    for name in (".tmp-a-77", ".tmp-a-b-77", ".tmp-b-77"):
        (tmp_path / name).write_text("half")
    durable.replace_file(tmp_path / "a", b"one")
    assert sorted(os.listdir(tmp_path)) == [".tmp-a-b-77", ".tmp-b-77", "a"]


def test_a_file_that_another_process_is_writing_stays(tmp_path):
    with open(tmp_path / ".tmp-a-77", "wb") as file:
        durable.hold(file.fileno())
        durable.replace_file(tmp_path / "a", b"one")
        durable.remove_unfinished(tmp_path)
        assert sorted(os.listdir(tmp_path)) == [".tmp-a-77", "a"]
    durable.remove_unfinished(tmp_path)
    assert os.listdir(tmp_path) == ["a"]


def test_an_operating_system_error_becomes_a_message_with_cause_and_remedy():
    with pytest.raises(CheckpointError, match=r"cannot save it: No space left on device; free space"):
        with durable.reporting("save it"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
