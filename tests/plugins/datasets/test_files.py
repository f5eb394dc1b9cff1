import pickle
import subprocess
import sys

import pytest

from hebm.errors import DataError
from hebm_plugins.datasets.files import is_image, open_files

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


@pytest.mark.parametrize("kind", KINDS)
def test_files_travel_to_another_process(kind, tmp_path, make_tree, write_files):
    images = make_tree(n=2)
    files = open_files(write_files(tmp_path / kind, images))
    name = files.names[0]
    assert files.read(name) == images[name]
    code = "import pickle, sys; f = pickle.load(sys.stdin.buffer); sys.stdout.buffer.write(f.read(f.names[0]))"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(files), stdout=subprocess.PIPE, check=True)
    assert done.stdout == images[name]


def test_a_tar_with_a_file_twice_has_the_last_one(tmp_path, write_files):
    import io
    import tarfile

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
    ("name", "expected"),
    [("a/b.JPG", True), ("a.txt", False), ("__MACOSX/a.png", False), (".git/a.png", False), ("._a.jpg", False)],
)
def test_images_are_told_by_their_names(name, expected):
    assert is_image(name) is expected
