import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from hebm.data import archives, unpacked
from hebm.data.archives import open_files
from hebm.data.image_names import advice_for_other_data
from hebm.errors import DataError

STARTS = {"a.jfif": "JPEG", "b": "PNG", "c.img": "GIF", "d.data": "WEBP", "e.tile": "TIFF", "f.x": "BMP", "g.y": "PPM"}
KINDS = ["folder", "all.zip", "all.tar", "all.tar.gz", "all.tgz", "all.tar.xz"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_place_gives_the_same_files(kind, tmp_path, make_tree, write_files):
    images = make_tree()
    files = open_files(write_files(tmp_path / kind, {**images, "notes.txt": b"x", "train/.hidden.png": b"x"}))
    assert files.names == sorted(images)
    wanted = sorted(images)[3:9]
    assert dict(files.stream(wanted)) == {name: images[name] for name in wanted}
    assert all(files.read(name) == images[name] for name in wanted)
    assert files.describe("a.png") == f"{tmp_path / kind}/a.png"


def test_files_of_every_kind_travel_to_another_process(tmp_path, make_tree, write_files):
    images = make_tree(n=2)
    sets = [open_files(write_files(tmp_path / kind, images)) for kind in KINDS]
    expected = [{files.names[0]: files.read(files.names[0])} for files in sets]
    code = "import pickle, sys; sets = pickle.load(sys.stdin.buffer); " + (
        "sys.stdout.buffer.write(pickle.dumps([{f.names[0]: f.read(f.names[0])} for f in sets]))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(sets), stdout=subprocess.PIPE, check=True)
    assert pickle.loads(done.stdout) == expected == [{files.names[0]: images[files.names[0]]} for files in sets]


@pytest.mark.parametrize("kind", ["all.tar.gz", "all.tar.xz"])
def test_a_compressed_tar_is_unpacked_once_to_be_read_in_any_order(kind, tmp_path, make_tree, write_files, monkeypatch):
    images = make_tree()
    files = open_files(write_files(tmp_path / kind, images))
    passes, stream = [], archives.Tar.stream
    monkeypatch.setattr(archives.Tar, "stream", lambda self, wanted: (passes.append(1), stream(self, wanted))[1])
    assert all(files.read(name) == images[name] for name in [*reversed(files.names), *files.names])
    assert len(passes) == 1


def test_a_compressed_tar_that_does_not_fit_unpacked_says_what_to_do(tmp_path, make_tree, write_files, monkeypatch):
    files = open_files(write_files(tmp_path / "all.tar.gz", make_tree()))
    monkeypatch.setattr(unpacked.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(DataError, match=r"all\.tar\.gz: unpacking it takes [\d,]+ bytes, but .* has 10; .*TMPDIR"):
        files.read(files.names[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_processes_that_were_forked_read_one_unpacked_archive(tmp_path):
    data = {str(i): bytes([i]) * 50000 for i in range(20)}
    files = unpacked.Unpacked(data.items(), sum(map(len, data.values())), "all")
    child = os.fork()
    right = all(files.read(name) == data[name] for _ in range(20) for name in data)
    if child == 0:
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert right


def test_a_tar_with_a_file_twice_has_the_last_one(tmp_path, write_files):
    import io

    for kind in ("w", "w:gz"):
        path = tmp_path / ("a.tar" if kind == "w" else "a.tar.gz")
        with tarfile.open(path, kind) as archive:
            for data in (b"old", b"newer"):
                member = tarfile.TarInfo("./x.png")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        files = open_files(path)
        assert files.names == ["x.png"]
        assert files.read("x.png") == b"newer"
        assert list(files.stream(["x.png"])) == [("x.png", b"newer")]


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png"])
@pytest.mark.parametrize("kind", ["a.zip", "a.tar"])
def test_an_archive_with_names_outside_of_itself_writes_nothing(kind, name, tmp_path, encode, write_files):
    inner = tmp_path / "inner"
    files = open_files(write_files(inner / kind, {name: encode(1)}))
    list(files.stream(files.names))
    assert [path.name for path in inner.iterdir()] == [kind]
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("cut", [0.0, 0.5])
def test_a_truncated_archive_is_a_data_error_that_names_it(kind, cut, tmp_path, make_tree, write_files):
    path = write_files(tmp_path / kind, make_tree())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut)])

    def read_all():
        files = open_files(path)
        assert len(list(files.stream(files.names))) == len(make_tree())

    with pytest.raises(DataError, match=kind):
        read_all()


def test_a_damaged_file_in_a_zip_is_named(tmp_path, write_files, encode):
    path = write_files(tmp_path / "a.zip", {"x.png": encode(1), "y.png": encode(2)})
    data = bytearray(path.read_bytes())
    data[60] ^= 255
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.zip/x\.png"):
        open_files(path).read("x.png")


def test_what_is_no_place_of_images_is_refused_with_what_is(tmp_path):
    with pytest.raises(DataError, match=r"no such folder or archive; set data\.root"):
        open_files(tmp_path / "nothing")
    (tmp_path / "a.rar").write_bytes(b"x")
    with pytest.raises(DataError, match=r"must be a folder or an archive \(\.zip"):
        open_files(tmp_path / "a.rar")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("a.npy", "it holds NumPy arrays: use the data set arrays with data.train = 'a.npy'"),
        ("a.NPZ", "it holds NumPy arrays: use the data set arrays with data.train = 'a.NPZ'"),
        ("a.parquet", "it holds a data set of the library datasets: use the data set huggingface with data.path = "),
    ],
)
def test_a_place_of_arrays_or_tables_is_refused_with_the_data_set_that_reads_it(name, advice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=rf"must be a folder or an archive \(.*\); {advice}"):
        open_files(Path(name))
    assert advice_for_other_data(tmp_path).startswith(advice.partition("data.")[0])
    (tmp_path / name).rename(tmp_path / "a.txt")
    assert advice_for_other_data(tmp_path) == ""


@pytest.mark.parametrize("kind", ["folder", "all.zip", "all.tar", "all.tar.gz"])
def test_images_are_told_by_content_where_the_name_does_not_say(kind, tmp_path, encode, write_files):
    images = {f"{name}": encode(i, kind=form) for i, (name, form) in enumerate(STARTS.items())}
    others = {"notes.txt": b"P1 is a note", "data.bin": bytes(64), "empty": b"", "BM": b"BMW is a car, not a bitmap"}
    files = open_files(write_files(tmp_path / kind, {**images, **others}))
    assert files.names == sorted(images)


def test_links_are_followed_and_what_cannot_be_an_image_is_named(tmp_path, encode, write_files):
    write_files(tmp_path / "real", {"cat/1.png": encode(1)})
    root = tmp_path / "set"
    write_files(root, {"2.png": encode(2), ".hidden.png": encode(3), "._2.png": b"fork", "__MACOSX/2.png": b"fork"})
    (root / "cat").symlink_to(tmp_path / "real" / "cat")
    (root / "loop").symlink_to(root)
    (root / "gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(root / "pipe.png")
    files = open_files(root)
    assert files.names == ["2.png", "cat/1.png"]
    assert {name for names in files.left_out.values() for name in names} == {
        ".hidden.png",
        "loop",
        "gone.png",
        "pipe.png",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_may_not_be_read_is_an_error_with_its_path(tmp_path, encode, write_files):
    root = write_files(tmp_path / "set", {"1.png": encode(1), "locked/2.png": encode(2)})
    (root / "locked").chmod(0)
    with pytest.raises(DataError, match=r"locked"):
        open_files(root)
    (root / "locked").chmod(0o700)


def test_an_archive_with_backslashes_has_folders(tmp_path, encode):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("train\\cat\\1.png", "train\\dog\\2.png"):
            archive.writestr(name, encode(1))
    files = open_files(tmp_path / "a.zip")
    assert files.names == ["train/cat/1.png", "train/dog/2.png"]
    assert files.read("train/dog/2.png") == encode(1)


def test_a_compressed_tar_with_the_name_of_a_plain_one_is_read(tmp_path, make_tree, write_files):
    packed = write_files(tmp_path / "a.tar.gz", make_tree())
    packed.rename(tmp_path / "a.tar")
    files = open_files(tmp_path / "a.tar")
    assert {name: files.read(name) for name in files.names} == make_tree()


@pytest.mark.parametrize("kind", ["folder", "all.zip", "all.tar", "all.tar.gz"])
def test_a_file_larger_than_an_image_is_refused_before_it_is_read(kind, tmp_path, write_files, monkeypatch):
    monkeypatch.setattr("hebm.data.files.LARGEST", 1000)
    files = open_files(write_files(tmp_path / kind, {"big.png": bytes(1001), "small.png": bytes(1000)}))
    assert len(files.read("small.png")) == 1000
    with pytest.raises(DataError, match=r"big\.png: holds 1,001 bytes, more than an image file can have"):
        files.read("big.png")


def test_a_tar_that_claims_more_than_it_can_hold_is_refused(tmp_path, encode):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("big.bin")
        member.size = 1 << 40
        archive.addfile(tarfile.TarInfo("empty"))
        archive.fileobj.write(member.tobuf())
    with pytest.raises(DataError, match=r"'big\.bin' claims 1,099,511,627,776 bytes"):
        open_files(path)
