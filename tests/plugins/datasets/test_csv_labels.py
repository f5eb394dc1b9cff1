"""A CSV next to the images, in their archive, or within each split."""

import pytest
import torch

from hebm.errors import DataError
from hebm.testing.datasets import check_fingerprint, check_labels, check_splits
from hebm_plugins.datasets.image_folder import ImageFolder


def images_of(encode, n=10, prefix=""):
    """Image i has brightness 20 i."""
    return {f"{prefix}{i}.png": encode(20 * i) for i in range(n)}


def bright(images):
    """Which images have i ≥ 5, and which an even i, by their pixels, `(N, 2)`."""
    i = ((images.read(torch.arange(len(images))).mean((1, 2, 3)) + 1) * 127.5 / 20).round().long()
    return torch.stack([i >= 5, i % 2 == 0], dim=1).long()


def table(n=10, prefix="", header="file,bright,even"):
    return "\n".join([header, *(f"{prefix}{i}.png,{int(i >= 5)},{int(i % 2 == 0)}" for i in range(n))]).encode()


PLACES = {
    "folder": ("set", "", "labels.csv", ""),
    "folder in the folder": ("set", "faces/", "faces/labels.csv", ""),
    "folder in the folder, table above": ("set", "faces/", "labels.csv", "faces/"),
    "folder in the folder, table above, inner names": ("set", "faces/", "labels.csv", ""),
    "zip": ("set.zip", "", "labels.csv", ""),
    "wrapped zip": ("set.zip", "set/", "set/labels.csv", ""),
    "wrapped tar": ("set.tar", "set/", "set/labels.csv", "set/"),
    "tar.gz": ("set.tar.gz", "", "labels.csv", ""),
}


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_attributes_follow_their_images_wherever_the_table_is(place, cache, tmp_path, write_files, encode):
    name, wrap, where, prefix = PLACES[place]
    files = {**images_of(encode, prefix=wrap), where: table(prefix=prefix)}
    data = ImageFolder(root=str(write_files(tmp_path / name, files)), labels="labels.csv", holdout=0.3, cache=cache)
    for split, n in (("train", 7), ("test", 3)):
        images = data.load(split)
        assert images.attributes == ("bright", "even")
        assert images.classes == ()
        assert images.labels.shape == (n, 2)
        assert torch.equal(images.labels, bright(images))
    for check in (check_splits, check_labels, check_fingerprint):
        check(data)


@pytest.mark.parametrize("absolute", [False, True])
def test_the_table_may_lie_beside_the_archive_or_anywhere(absolute, tmp_path, write_files, encode):
    root = write_files(tmp_path / "set.zip", images_of(encode))
    where = tmp_path / ("elsewhere" if absolute else ".") / "names.csv"
    where.parent.mkdir(exist_ok=True)
    where.write_bytes(table())
    data = ImageFolder(root=str(root), labels=str(where) if absolute else "names.csv", holdout=0, limit=6)
    images = data.load("train")
    assert torch.equal(images.labels, bright(images))
    assert len(images) == 6


def test_one_column_gives_classes_instead_of_the_folders(tmp_path, write_files, encode):
    names = [f"{folder}/{i}.png" for folder in ("p", "q") for i in range(5)]
    files = {name: encode(20 * i) for i, name in enumerate(names)}
    rows = "".join(f"{name},{'light' if i >= 5 else 'dark'}\n" for i, name in enumerate(names))
    root = write_files(tmp_path / "set", {**files, "kinds.csv": f"file,kind\n{rows}".encode()})
    images = ImageFolder(root=str(root), labels="kinds.csv").load("train")
    assert (images.classes, images.attributes) == (("dark", "light"), ())
    assert torch.equal(images.labels, bright(images)[:, 0])


@pytest.mark.parametrize("shared", [True, False])
def test_splits_share_a_table_or_have_their_own(shared, tmp_path, write_files, encode):
    files = {**images_of(encode, prefix="train/"), **images_of(encode, 4, "val/")}
    if shared:
        lines = table(prefix="train/") + b"\n" + table(4, "val/").split(b"\n", 1)[1]
        files["labels.csv"] = lines
    else:
        files |= {"train/labels.csv": table(), "val/labels.csv": table(4)}
    data = ImageFolder(root=str(write_files(tmp_path / "set", files)), labels="labels.csv")
    for split, n in (("train", 10), ("test", 4)):
        images = data.load(split)
        assert len(images) == n
        assert torch.equal(images.labels, bright(images))


@pytest.mark.parametrize("shared", [True, False])
def test_splits_in_archives_share_a_table_or_have_their_own(shared, tmp_path, write_files, encode):
    folder = tmp_path / "set"
    for split, n in (("train", 10), ("test", 4)):
        inside = {} if shared else {"labels.csv": table(n)}
        write_files(folder / f"{split}.tar.gz", {**images_of(encode, n), **inside})
    if shared:
        (folder / "labels.csv").write_bytes(table(prefix="train/") + b"\n" + table(4, "test/").split(b"\n", 1)[1])
    data = ImageFolder(root=str(folder), labels="labels.csv")
    for split in ("train", "test"):
        images = data.load(split)
        assert torch.equal(images.labels, bright(images))


def test_names_that_might_be_in_either_archive_are_refused(tmp_path, write_files, encode):
    for split in ("train", "test"):
        write_files(tmp_path / "set" / f"{split}.zip", images_of(encode))
    (tmp_path / "set" / "labels.csv").write_bytes(table())
    with pytest.raises(DataError, match=r"labels\.csv, line 2: image '0\.png' not found \(10 such lines\)"):
        ImageFolder(root=str(tmp_path / "set"), labels="labels.csv").load("train")


def test_classes_are_numbered_alike_in_splits_with_tables_of_their_own(tmp_path, write_files, encode):
    files = {f"{split}/{i}.png": encode(i) for split in ("train", "test") for i in range(3)}
    files["train/l.csv"] = b"file,kind\n0.png,a\n1.png,c\n2.png,b\n"
    files["test/l.csv"] = b"file,kind\n0.png,c\n1.png,c\n2.png,c\n"
    data = ImageFolder(root=str(write_files(tmp_path / "set", files)), labels="l.csv")
    assert data.load("train").classes == data.load("test").classes == ("a", "b", "c")
    assert data.load("test").labels.tolist() == [2, 2, 2]
    (tmp_path / "set" / "test" / "l.csv").write_bytes(b"file,x,y\n0.png,1,1\n1.png,0,0\n2.png,1,0\n")
    with pytest.raises(DataError, match=r"test/l\.csv: has other columns than .*train/l\.csv"):
        data.load("train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t + "\nx.png,1,1", r"labels\.csv, line 12: image 'x\.png' not found; .*fix or remove"),
        (lambda t: t.replace("\n3.png,0,0", ""), r"1 of 10 images have no line, one is .*/3\.png; add lines"),
        (lambda t: t.replace("3.png,0,0", "3.png,0"), r"labels\.csv, line 5: has 2 cells, the header has 3"),
        (lambda t: t.replace("3.png,0,0", "3.png,0,no"), r"labels\.csv, line 5: even is 'no'; allowed"),
    ],
)
@pytest.mark.parametrize("kind", ["set", "set.zip", "set.tar.gz"])
def test_what_does_not_fit_is_named_with_its_line(kind, change, message, tmp_path, write_files, encode):
    files = {**images_of(encode), "labels.csv": change(table().decode()).encode()}
    with pytest.raises(DataError, match=message):
        ImageFolder(root=str(write_files(tmp_path / kind, files)), labels="labels.csv").load("train")


@pytest.mark.parametrize("kind", ["set", "set.zip"])
def test_a_missing_table_says_where_it_looked(kind, tmp_path, write_files, encode):
    root = write_files(tmp_path / kind, images_of(encode))
    with pytest.raises(DataError, match=r"labls\.csv: no such file, and none of this name .*set.*; set data\.labels"):
        ImageFolder(root=str(root), labels="labls.csv").load("train")
    with pytest.raises(DataError, match=r"/nowhere/l\.csv: no such file; set data\.labels"):
        ImageFolder(root=str(root), labels="/nowhere/l.csv").load("train")


def test_skipped_images_take_their_labels_along(tmp_path, write_files, encode):
    files = {**images_of(encode), "4.png": b"", "labels.csv": table()}
    data = ImageFolder(root=str(write_files(tmp_path / "set", files)), labels="labels.csv", holdout=0, corrupt="skip")
    with pytest.warns(UserWarning, match="left out 1 of 10 files, which cannot be read as images"):
        images = data.load("train")
    assert torch.equal(images.labels, bright(images))


def test_a_changed_label_is_another_data_set(tmp_path, write_files, encode):
    files = {**images_of(encode), "labels.csv": table()}
    root = write_files(tmp_path / "set", files)
    data = ImageFolder(root=str(root), labels="labels.csv", holdout=0)
    before = data.load("train").fingerprint()
    (root / "labels.csv").write_bytes(table().replace(b"3.png,0,0", b"3.png,1,0"))
    assert data.load("train").fingerprint() != before
