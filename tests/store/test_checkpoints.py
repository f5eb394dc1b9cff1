"""Checkpoints come back as they were saved; the newest few are kept; no pickle is written."""

import json
import re
import shutil

import pytest
from checkpoint_cases import FILES, RUN, make, names, refuse, same

from hebm.errors import CheckpointError
from hebm.store import checkpoints
from hebm.store.checkpoints import Checkpoint, load_latest, save, verify


def test_what_is_loaded_is_what_was_saved(tmp_path):
    path = save(tmp_path / "c", make(7), 2, RUN)
    assert path.name == "step-00000007"
    assert same(load_latest(tmp_path / "c", RUN, refuse), make(7))
    assert verify(path) == []
    assert sorted(FILES) == names(path)


def test_without_any_checkpoint_there_is_none(tmp_path):
    assert load_latest(tmp_path / "missing", RUN, refuse) is None
    assert load_latest(tmp_path, RUN, refuse) is None


def test_the_newest_few_are_kept(tmp_path):
    for step in (1, 2, 3, 4):
        save(tmp_path, make(step), 3, RUN)
    assert names(tmp_path) == ["step-00000002", "step-00000003", "step-00000004"]


def test_keeping_fewer_than_two_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="at least 2"):
        save(tmp_path, make(1), 1, RUN)


def test_steps_beyond_eight_digits_are_ordered_by_number(tmp_path):
    save(tmp_path, make(99_999_999), 2, RUN)
    save(tmp_path, make(100_000_000), 2, RUN)
    assert load_latest(tmp_path, RUN, refuse).total_step == 100_000_000


def test_a_step_saved_anew_counts_as_newer_and_replaces_nothing(tmp_path):
    save(tmp_path, make(5, phase="backbone"), 2, RUN)
    save(tmp_path, make(5, phase="prior"), 2, RUN)
    assert names(tmp_path) == ["step-00000005", "step-00000005-1"]
    assert load_latest(tmp_path, RUN, refuse).phase == "prior"
    save(tmp_path, make(5, phase="again"), 2, RUN)
    assert names(tmp_path) == ["step-00000005-1", "step-00000005-2"]


def test_half_written_folders_of_a_killed_process_are_ignored_and_removed_by_the_next_save(tmp_path):
    save(tmp_path, make(1), 2, RUN)
    shutil.copytree(tmp_path / "step-00000001", tmp_path / ".tmp-step-00000002")
    assert load_latest(tmp_path, RUN, refuse).total_step == 1
    assert ".tmp-step-00000002" in names(tmp_path)  # a reader changes nothing: the run may be at work
    save(tmp_path, make(2), 2, RUN)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize(
    "state", [{1: "a"}, {"a": (1, 2)}, {"a": float("nan")}, {"a": object()}], ids=["int key", "tuple", "nan", "object"]
)
def test_state_that_json_would_change_is_refused_and_leaves_nothing(tmp_path, state):
    with pytest.raises(CheckpointError, match=r"JSON|not JSON"):
        save(tmp_path, make(1, state=state), 2, RUN)
    assert names(tmp_path) == []


def test_a_file_name_that_leads_elsewhere_is_refused(tmp_path):
    for stem in ("../evil", "a/b", "", "..", ".tmp-x"):
        with pytest.raises(CheckpointError, match="is not a file name"):
            save(tmp_path / "c", Checkpoint("p", 1, 1, {stem: {}}), 2, RUN)
    assert names(tmp_path) == ["c"]


def test_a_manifest_that_names_a_file_elsewhere_is_refused_even_with_the_right_hash(tmp_path):
    path = save(tmp_path / "c", make(1), 2, RUN)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["../../outside.safetensors"] = manifest["files"]["nothing.safetensors"]
    shutil.copy(path / "nothing.safetensors", tmp_path / "outside.safetensors")
    data = json.dumps(manifest).encode()
    (path / "manifest.json").write_bytes(data)
    (path / "manifest.sha256").write_bytes(checkpoints._digest(data))
    assert ["outside" in complaint for complaint in verify(path)] == [True]


# ---------------------------------------------------------------- R8: no pickle

OPCODES = re.compile(rb"^\x80[\x02-\x05]|^PK\x03\x04")


def test_files_are_safetensors_and_json_never_pickle_or_zip(tmp_path):
    path = save(tmp_path, make(1), 2, RUN)
    for file in path.iterdir():
        data = file.read_bytes()
        assert not OPCODES.match(data)
        if file.suffix == ".safetensors":
            size = int.from_bytes(data[:8], "little")
            assert isinstance(json.loads(data[8 : 8 + size]), dict)
    json.loads((path / "manifest.json").read_text())
