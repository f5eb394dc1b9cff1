"""R8: other codes' files come in by one door, and run nothing on the way."""

import argparse
import io
import os
import pickle
import random
import tarfile
import warnings
import zipfile

import pytest
import torch

from hebm.errors import CheckpointError
from hebm.store import foreign

NAMESPACE = (argparse.Namespace,)


class Evil:
    """Unpickled the plain way, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


@pytest.fixture
def file(tmp_path):
    """`file(bytes)` writes them and returns the path."""

    def write(data):
        path = tmp_path / "checkpoint.pt"
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_containers_and_the_allowed_class_come_in(file, zipped):
    content = {"w": torch.arange(3.0), "args": argparse.Namespace(a=1), "list": [1, (2.5, "x", None)]}
    found = foreign.load(file(saved(content, _use_new_zipfile_serialization=zipped)), NAMESPACE)
    assert torch.equal(found["w"], content["w"])
    assert (found["args"], found["list"]) == (content["args"], content["list"])


@pytest.mark.parametrize("how", ["raw pickle", "zip", "legacy", "within the allowed class"])
def test_a_pickle_that_asks_to_run_code_does_not_and_the_error_says_so(file, tmp_path, how):
    evil = Evil(tmp_path / "owned")
    data = {
        "raw pickle": lambda: pickle.dumps(evil),
        "zip": lambda: saved({"state_dict": evil}),
        "legacy": lambda: saved({"state_dict": evil}, _use_new_zipfile_serialization=False),
        "within the allowed class": lambda: saved(argparse.Namespace(x=evil)),
    }[how]()
    with pytest.raises(CheckpointError, match=r"run code.*Nothing of it was run") as caught:
        foreign.load(file(data), NAMESPACE)
    assert "argparse.Namespace are allowed" in str(caught.value)
    assert not (tmp_path / "owned").exists()
    pickle.loads(pickle.dumps(evil))  # the fixture is what it says
    assert (tmp_path / "owned").exists()


def test_a_class_is_allowed_for_the_file_that_names_it_alone(file):
    path = file(saved(argparse.Namespace(a=1)))
    assert foreign.load(path, NAMESPACE).a == 1
    with pytest.raises(CheckpointError, match="Namespace"):
        foreign.load(path, ())


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\x80\x02", b"PK\x03\x04", b"not a checkpoint at all" * 99, saved({"a": 1})[:-40]]
)
def test_what_is_no_checkpoint_is_an_error_that_names_the_file(file, data):
    path = file(data)
    with pytest.raises(CheckpointError, match="checkpoint") as caught:
        foreign.load(path, NAMESPACE)
    assert str(path) in str(caught.value)


def test_any_damage_is_an_error_of_ours_and_nothing_else(file):
    generator = random.Random(0)
    whole = [
        saved({"w": torch.ones(9), "a": argparse.Namespace(x=[1])}, _use_new_zipfile_serialization=z) for z in (1, 0)
    ]
    for i in range(400):
        data = bytearray(whole[i % 2])
        for _ in range(generator.randrange(1, 6)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        path = file(bytes(data[: generator.choice([len(data), generator.randrange(len(data))])]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                foreign.load(path, NAMESPACE)
            except CheckpointError:
                continue


def rewritten(data, change):
    """A zip archive with the same parts, each changed by `change(name, bytes)`, its sums those of the new bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        for part in old.infolist():
            new.writestr(part.filename, change(part.filename, old.read(part)))
    return buffer.getvalue()


def flipped(data, inside):
    """The bytes with one bit flipped, after the first place that has these bytes."""
    place = data.index(inside) + len(inside)
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGED = {
    "a weight": lambda: flipped(saved({"w": torch.full((9,), 1.5)}), b"\x00\x00\xc0\x3f" * 3),
    "a class's name": lambda: flipped(saved({"w": torch.ones(9)}), b"collectio"),
    "a class's name, in a file without sums": lambda: flipped(
        saved({"w": torch.ones(9)}, _use_new_zipfile_serialization=False), b"_utils\n_rebuild_tensor_v"
    ),
    "cut": lambda: saved({"w": torch.ones(999)})[:-1000],
    "a newer pickle": lambda: saved({"w": torch.ones(9)}, pickle_protocol=4),
    "nonsense": lambda: rewritten(
        saved({"w": 1}), lambda name, data: b"nonsense" if name.endswith("data.pkl") else data
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_file_that_is_merely_damaged_is_not_called_an_attack(kind, file):
    with pytest.raises(CheckpointError, match="is not a checkpoint, or is damaged") as caught:
        foreign.load(file(DAMAGED[kind]()), NAMESPACE)
    assert "run code" not in str(caught.value)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("inside", ["alone", "deep", "a torch file"])
def test_the_name_that_a_file_asks_to_run_is_in_the_message(protocol, inside, file, tmp_path):
    evil = Evil(tmp_path / "owned")
    content = {"alone": evil, "deep": {"a": ["x", ("y", evil)]}, "a torch file": None}[inside]
    data = pickle.dumps(content, protocol) if content else saved({"args": evil}, pickle_protocol=protocol)
    with pytest.raises(CheckpointError, match=rf"it asks to run code \({os.mkdir.__module__}\.mkdir\)"):
        foreign.load(file(data), NAMESPACE)
    assert not (tmp_path / "owned").exists()


def test_what_a_pickle_claims_is_not_allocated_while_its_names_are_looked_for(file):
    """Text of 2^62 bytes, said to follow."""
    with pytest.raises(CheckpointError, match="damaged"):
        foreign.load(file(b"\x80\x04\x8d" + (1 << 62).to_bytes(8, "little") + b"x"), NAMESPACE)


def test_a_file_that_was_saved_without_sums_is_read_with_a_note(file):
    data = bytearray(saved({"w": torch.ones(9)}))
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        sums = [part.CRC.to_bytes(4, "little") for part in archive.infolist()]
    for crc in sums:
        data = data.replace(crc, b"\x01\x02\x03\x04")
    notes = []
    assert foreign.load(file(bytes(data)), NAMESPACE, notes.append)["w"].sum() == 9
    assert notes == ["the file was saved without checksums, so damage to its weights cannot be detected"]


def test_an_archive_that_is_larger_inside_than_outside_is_refused_before_it_is_read(file):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (50 << 20))
    with pytest.raises(CheckpointError, match=r"expands from \d\d,\d\d\d to 52,428,800 bytes, but at most 100 times"):
        foreign.load(file(buffer.getvalue()), NAMESPACE)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(CheckpointError, match=r"cannot read .*not a regular file"):
        foreign.load(tmp_path / "pipe.pt", NAMESPACE)


@pytest.mark.parametrize("kind", ["torchscript", "tar", "a module"])
def test_torchs_advice_to_open_a_file_unsafely_is_not_passed_on(file, kind):
    buffer = io.BytesIO()
    if kind == "torchscript":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(torch.jit.script(torch.nn.Identity()), buffer)
    elif kind == "tar":
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("x"))
    else:
        torch.save(torch.nn.Identity(), buffer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(CheckpointError) as caught:
            foreign.load(file(buffer.getvalue()), NAMESPACE)
    assert not [word for word in ("safe_globals", "False", "Re-running") if word in str(caught.value)]


def test_a_missing_file_and_a_folder_are_clear_errors(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot read .*No such file"):
        foreign.load(tmp_path / "none.pt", NAMESPACE)
    with pytest.raises(CheckpointError, match=r"cannot read .*directory"):
        foreign.load(tmp_path, NAMESPACE)


def test_what_is_saved_is_loaded_again_and_nothing_else_is_left(tmp_path):
    foreign.save({"w": torch.ones(2), "args": argparse.Namespace(a=1)}, tmp_path / "x.pt")
    assert foreign.load(tmp_path / "x.pt", NAMESPACE)["args"].a == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


def test_no_file_is_overwritten(tmp_path):
    (tmp_path / "x.pt").write_text("mine")
    with pytest.raises(CheckpointError, match="exists already"):
        foreign.save({}, tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_text() == "mine"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")])
def test_a_save_that_fails_leaves_nothing(tmp_path, monkeypatch, error):
    def failing(content, file):
        file.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", failing)
    with pytest.raises(CheckpointError, match=r"cannot write .*x\.pt"):
        foreign.save({}, tmp_path / "x.pt")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot write .*No such file"):
        foreign.save({}, tmp_path / "none" / "x.pt")
