"""R2: a damaged or foreign checkpoint is passed over with a message that names the file; never a wrong tensor."""

import errno
import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from checkpoint_cases import FILES, RUN, make, names, refuse, same

from hebm.errors import CheckpointError
from hebm.store import checkpoints, durable
from hebm.store.checkpoints import Checkpoint, load, load_latest, save, verify
from hebm.store.durable import UnreadableError


def flip(path, position, bit):
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def damages():
    """Every file: deleted, emptied, a folder in its place, cut at sampled lengths, a bit flipped at sampled places."""
    chance = random.Random(0)
    for name in FILES:
        yield pytest.param(name, Path.unlink, id=f"{name} deleted")
        yield pytest.param(name, lambda p: p.write_bytes(b""), id=f"{name} emptied")
        yield pytest.param(name, lambda p: (p.unlink(), p.mkdir()), id=f"{name} a folder")
        yield pytest.param(name, lambda p: p.write_bytes(p.read_bytes() + b"\0"), id=f"{name} longer")
        for _ in range(5):
            part = chance.random()
            cut = lambda p, part=part: p.write_bytes(p.read_bytes()[: int(part * p.stat().st_size)])  # noqa: E731
            yield pytest.param(name, cut, id=f"{name} cut at {part:.3f}")
        for part in [0.0, 0.999999] + [chance.random() for _ in range(30)]:
            bit = chance.randrange(8)
            one = lambda p, part=part, bit=bit: flip(p, int(part * p.stat().st_size), bit)  # noqa: E731
            yield pytest.param(name, one, id=f"{name} bit {bit} at {part:.3f}")


@pytest.fixture(scope="module")
def two_saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    save(folder, make(1), 2, RUN)
    save(folder, make(2), 2, RUN)
    return folder


@pytest.mark.parametrize(("name", "damage"), list(damages()))
def test_a_damaged_checkpoint_is_passed_over_with_a_message_that_names_the_file(tmp_path, two_saved, name, damage):
    folder = shutil.copytree(two_saved, tmp_path / "c")
    damage(folder / "step-00000002" / name)
    said = []
    assert same(load_latest(folder, RUN, said.append), make(1))
    assert len(said) == 1
    assert name in said[0]
    assert "step-00000002" in said[0]
    assert "going back to step-00000001" in said[0]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("cause", [errno.EACCES, errno.EIO])
def test_a_checkpoint_that_cannot_be_read_may_be_whole_and_nothing_older_is_used(
    tmp_path, two_saved, monkeypatch, name, cause
):
    path = tmp_path / "c" / "step-00000002" / name

    def opener(file, flags):
        if Path(file) == path:
            raise OSError(cause, os.strerror(cause), str(file))
        return os.open(file, flags)

    shutil.copytree(two_saved, tmp_path / "c")
    monkeypatch.setattr(durable, "_without_waiting", opener)
    with pytest.raises(UnreadableError) as caught:
        load_latest(tmp_path / "c", RUN, refuse, set_aside=True)
    assert f"{name} cannot be read ({os.strerror(cause)}); make it readable, or remove" in str(caught.value)
    assert sorted(found.name for found in (tmp_path / "c").iterdir()) == ["step-00000001", "step-00000002"]
    assert f"{name} cannot be read" in verify(path.parent)[0]


def test_every_single_bit_of_a_small_checkpoint_counts(tmp_path):
    path = save(tmp_path, Checkpoint("p", 1, 1, {"w": {"w": torch.tensor([1.0, 2.0])}}), 2, RUN)
    for file in path.iterdir():
        whole = file.read_bytes()
        for position in range(len(whole)):
            flip(file, position, position % 8)
            assert verify(path), f"{file.name}: bit {position % 8} of byte {position} was not noticed"
            file.write_bytes(whole)
    assert verify(path) == []


@pytest.mark.parametrize("name", [*FILES, "manifest.json and manifest.sha256", "all"])
def test_files_of_another_run_are_noticed(tmp_path, two_saved, name):
    folder = shutil.copytree(two_saved, tmp_path / "c")
    save(tmp_path / "other", make(2, value=99.0, state={"skipped": 3}), 2, "b" * 32)
    swapped = FILES if name == "all" else name.split(" and ")
    for file in swapped:
        shutil.copy(tmp_path / "other" / "step-00000002" / file, folder / "step-00000002" / file)
    said = []
    found = load_latest(folder, RUN, said.append)
    if name == "nothing.safetensors":  # the same bytes in both
        assert same(found, make(2))
    else:
        assert same(found, make(1))
        assert any(file in said[0] for file in swapped)


def test_a_folder_of_another_run_is_noticed_by_its_run_id(tmp_path):
    save(tmp_path, make(2), 2, "b" * 32)
    with pytest.raises(CheckpointError, match=f"another run.*{'b' * 32}"):
        load_latest(tmp_path, RUN, refuse)
    assert same(load_latest(tmp_path, None, refuse), make(2))


def test_a_folder_under_another_steps_name_is_noticed(tmp_path, two_saved):
    folder = shutil.copytree(two_saved, tmp_path / "c")
    shutil.copytree(folder / "step-00000001", folder / "step-00000009")
    said = []
    assert same(load_latest(folder, RUN, said.append), make(2))
    assert "is of step 1" in said[0]


def test_files_of_an_earlier_step_are_noticed(tmp_path, two_saved):
    folder = shutil.copytree(two_saved, tmp_path / "c")
    shutil.copy(folder / "step-00000001" / FILES[0], folder / "step-00000002" / FILES[0])
    said = []
    assert same(load_latest(folder, RUN, said.append), make(1))
    assert FILES[0] in said[0]


def test_when_all_are_damaged_each_is_listed_and_nothing_is_changed(tmp_path, two_saved):
    folder = shutil.copytree(two_saved, tmp_path / "c")
    (folder / "step-00000001" / FILES[0]).unlink()
    flip(folder / "step-00000002" / FILES[1], 90, 3)
    with pytest.raises(
        CheckpointError, match=r"(?s)can be used.*00000002: optimizer-prior.*00000001: backbone.*remove"
    ):
        load_latest(folder, RUN, refuse, set_aside=True)
    assert names(folder) == names(two_saved)


def test_verify_names_all_that_is_wrong(tmp_path, two_saved):
    path = shutil.copytree(two_saved / "step-00000002", tmp_path / "step-00000002")
    (path / FILES[0]).unlink()
    (path / FILES[1]).write_bytes(b"x")
    assert [complaint.split()[0] for complaint in verify(path)] == FILES[:2]
    with pytest.raises(CheckpointError, match=r"backbone.*; optimizer-prior"):
        load(path)


def test_damaged_ones_set_aside_do_not_count_among_those_kept(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, make(step), 3, RUN)
    (tmp_path / "step-00000002" / FILES[0]).unlink()
    (tmp_path / "step-00000003" / FILES[0]).unlink()
    said = []
    assert same(load_latest(tmp_path, RUN, said.append, set_aside=True), make(1))
    assert len(said) == 2
    assert names(tmp_path) == ["damaged-step-00000002", "damaged-step-00000003", "step-00000001"]
    save(tmp_path, make(2), 2, RUN)
    assert same(load_latest(tmp_path, RUN, refuse), make(2))
    assert "step-00000001" in names(tmp_path)


def test_a_save_behind_damaged_newer_ones_is_not_removed_as_old(tmp_path):
    for step in (1, 8, 9):
        save(tmp_path, make(step), 3, RUN)
    for step in (8, 9):
        (tmp_path / f"step-0000000{step}" / "manifest.json").write_bytes(b"")
    save(tmp_path, make(2), 2, RUN)
    assert load_latest(tmp_path, RUN, lambda _: None).total_step == 2
    assert "step-00000001" in names(tmp_path)


def test_a_reader_survives_a_run_that_prunes_under_its_hands(tmp_path, monkeypatch):
    save(tmp_path, make(1), 2, RUN)
    once = iter([True])
    honest = checkpoints.load

    def pruned(path, run_id):
        if next(once, False):
            for step in (2, 3, 4):
                save(tmp_path, make(step), 2, RUN)
        return honest(path, run_id)

    monkeypatch.setattr(checkpoints, "load", pruned)
    assert load_latest(tmp_path, RUN, refuse).total_step == 4


def test_a_file_where_the_folder_should_be_is_no_fresh_start(tmp_path):
    (tmp_path / "c").write_text("x")
    with pytest.raises(CheckpointError, match="cannot read"):
        load_latest(tmp_path / "c", RUN, refuse)
