import os
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hebm.data.batches import Batches
from hebm.data.images import LazyImages
from hebm.errors import ConfigError, DataError
from hebm_plugins.datasets import encoded_images
from hebm_plugins.datasets.image_folder import ImageFolder


def pixels(images):
    return images.read(torch.arange(len(images)))


def unlabelled(encode, n=20, **options):
    return {f"{i}.png": encode(10 * i, **options) for i in range(n)}


PLACES = {
    "folder": ("set", ""),
    "wrapped folder": ("set", "download/set/"),
    "zip": ("set.zip", ""),
    "wrapped tar": ("set.tar", "set/"),
    "tar.gz": ("set.tar.gz", "./"),
}


@pytest.mark.parametrize("place", PLACES)
def test_splits_and_classes_are_the_same_wherever_the_files_are(place, tmp_path, make_tree, write_files):
    reference = ImageFolder(root=str(write_files(tmp_path / "reference", make_tree())))
    name, wrap = PLACES[place]
    other = ImageFolder(root=str(write_files(tmp_path / name, {wrap + k: v for k, v in make_tree().items()})))
    for split in ("train", "test"):
        a, b = reference.load(split), other.load(split)
        assert b.classes == ("cat", "dog")
        assert (len(b), b.shape) == (12, (3, 8, 8))
        assert torch.equal(pixels(a), pixels(b))
        assert torch.equal(a.labels, b.labels)
        assert a.fingerprint() == b.fingerprint()


@pytest.mark.parametrize("kind", ["{}.tar.gz", "{}.zip", "{}.tar"])
def test_splits_may_be_archives_in_a_folder(kind, tmp_path, make_tree, write_files):
    reference = ImageFolder(root=str(write_files(tmp_path / "reference", make_tree())))
    for split in ("train", "test"):
        write_files(
            tmp_path / "set" / kind.format(split), make_tree([split], 6) if split == "train" else _tests(make_tree)
        )
    for split in ("train", "test"):
        a, b = reference.load(split), ImageFolder(root=str(tmp_path / "set")).load(split)
        assert torch.equal(pixels(a), pixels(b))
        assert a.classes == b.classes


def _tests(make_tree):
    return {name: data for name, data in make_tree().items() if name.startswith("test")}


def test_labels_name_the_sub_folder(tmp_path, write_files, encode):
    files = {f"{kind}/{i}.png": encode(value) for kind, value in (("bright", 240), ("dark", 9)) for i in range(5)}
    images = ImageFolder(root=str(write_files(tmp_path / "set", files)), holdout=0.2).load("train")
    assert images.classes == ("bright", "dark")
    assert torch.equal(pixels(images).mean((1, 2, 3)) < 0, images.labels == 1)


def test_classes_are_numbered_alike_in_both_splits(tmp_path, write_files, encode):
    names = ("train/a/1", "train/b/1", "train/c/1", "test/b/1", "test/c/1")
    files = {f"{name}.png": encode(40 * i) for i, name in enumerate(names)}
    data = ImageFolder(root=str(write_files(tmp_path / "set", files)))
    assert data.load("test").classes == data.load("train").classes == ("a", "b", "c")
    assert sorted(data.load("test").labels.tolist()) == [1, 2]


@pytest.mark.parametrize("test_name", ["test", "val", "valid", "validation"])
def test_validation_folders_are_the_test_split(test_name, tmp_path, write_files, encode):
    files = {"train/1.png": encode(1), "train/2.png": encode(2), f"{test_name}/3.png": encode(3)}
    data = ImageFolder(root=str(write_files(tmp_path / "set", files)))
    assert (len(data.load("train")), len(data.load("test"))) == (2, 1)
    assert data.load("train").labels is None


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_without_a_test_folder_a_fixed_part_is_held_out(prefix, tmp_path, write_files, encode):
    files = {prefix + name: data for name, data in unlabelled(encode).items()}
    data = ImageFolder(root=str(write_files(tmp_path / "set", files)), holdout=0.25)
    train, test = pixels(data.load("train")), pixels(data.load("test"))
    assert (len(train), len(test)) == (15, 5)
    means = torch.cat([train, test]).mean((1, 2, 3))
    assert len(means.unique()) == 20
    assert torch.equal(test, pixels(data.load("test")))


def test_lazy_reading_gives_the_same_images(tmp_path, make_tree, write_files):
    for kind in ("set", "set.zip", "set.tar", "set.tar.gz"):
        root = str(write_files(tmp_path / kind, make_tree()))
        cached, lazy = (
            ImageFolder(root=root).load("train"),
            ImageFolder(root=root, cache=False, workers=2, batch_size=4),
        )
        images = lazy.load("train")
        assert torch.equal(pixels(cached), pixels(images))
        assert torch.equal(cached.labels, images.labels)
        batches = Batches(images, lazy, seed=0)
        for step, batch in enumerate(batches.iterate(0, 4)):
            assert torch.equal(batch.x, batches.batch(step).x)


@pytest.mark.skipif(sys.platform != "linux", reason="this file system takes no names that are not UTF-8")
@pytest.mark.parametrize("cache", [True, False])
def test_names_that_are_not_utf8_have_a_fingerprint(tmp_path, write_files, encode, cache):
    root = write_files(tmp_path / "set", {f"caf\udce9{i}.png": encode(i) for i in range(4)})
    assert len(ImageFolder(root=str(root), cache=cache).load("train").fingerprint()) == 64


@pytest.mark.parametrize("kind", ["set", "set.tar.gz"])
def test_what_does_not_fit_in_memory_is_read_lazily(kind, tmp_path, make_tree, write_files, monkeypatch):
    root = str(write_files(tmp_path / kind, make_tree()))
    expected = pixels(ImageFolder(root=root).load("train"))
    monkeypatch.setattr(encoded_images, "MEMORY", 100)
    images = ImageFolder(root=root).load("train")
    assert isinstance(images, LazyImages)
    assert torch.equal(pixels(images), expected)


@pytest.mark.parametrize("cache", [True, False])
def test_mixed_sizes_name_the_file_and_the_option(cache, tmp_path, write_files, encode):
    files = {**unlabelled(encode), "odd.png": encode(1, side=9)}
    root = str(write_files(tmp_path / "set", files))
    data = ImageFolder(root=root, holdout=0, cache=cache)
    with pytest.raises(DataError, match=r"set/.*\.png: is \d×\d pixels, the first image is \d×\d.*data\.size"):
        pixels(data.load("train"))
    assert ImageFolder(root=root, holdout=0, cache=cache, size=4).load("train").shape == (3, 4, 4)


@pytest.mark.parametrize("cache", [True, False])
def test_a_grey_image_among_colour_ones_names_the_file_and_the_option(cache, tmp_path, write_files, encode):
    files = {**unlabelled(encode), "odd.png": encode(1, mode="L")}
    root = str(write_files(tmp_path / "set", files))
    with pytest.raises(DataError, match=r"set/.*\.png: has \d channel\(s\).*data\.channels = 1 or 3"):
        pixels(ImageFolder(root=root, holdout=0, cache=cache).load("train"))
    assert ImageFolder(root=root, holdout=0, cache=cache, channels=3).load("train").shape == (3, 8, 8)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("kind", ["set", "set.tar.gz"])
def test_a_corrupt_image_is_named_and_can_be_skipped(kind, cache, tmp_path, write_files, encode):
    files = {**unlabelled(encode), "broken.png": encode(5)[:50], "empty.jpg": b""}
    root = str(write_files(tmp_path / kind, files))
    listed = (
        rf":\n  {root}/broken\.png: cannot be read as an image \(.*\)\n"
        rf"  {root}/empty\.jpg: cannot be read as an image \(.*\)$"
    )
    with pytest.raises(DataError, match=r'^2 of 22 files cannot .*data\.corrupt = "skip" .*' + listed):
        pixels(ImageFolder(root=root, holdout=0, cache=cache).load("train"))
    with pytest.warns(UserWarning, match="^left out 2 of 22 files, which cannot be read as images" + listed) as noted:
        images = ImageFolder(root=root, holdout=0, cache=cache, corrupt="skip").load("train")
    assert len(noted) == 1
    assert len(pixels(images)) == 20


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("kind", ["set", "set.zip"])
def test_corrupt_images_of_all_splits_are_named_at_once_and_those_beyond_twenty_counted(
    kind, cache, tmp_path, write_files, encode
):
    good = {f"{split}/{i}.png": encode(i) for split in ("train", "test") for i in range(5)}
    bad = {f"train/bad-{i:02d}.png": b"x" for i in range(15)} | {f"test/bad-{i:02d}.png": b"x" for i in range(8)}
    root = str(write_files(tmp_path / kind, {**good, **bad}))
    images = ImageFolder(root=root, cache=cache)
    with pytest.raises(DataError, match=r"^23 of 33 files cannot be read as images") as caught:
        pixels(images.load("train"))
    _, *lines = str(caught.value).splitlines()
    names = sorted(f"{root}/{name}" for name in bad)
    assert [line.split(":")[0].strip() for line in lines[:-1]] == names[:20]
    assert lines[-1] == "  and 3 more"


def test_a_damaged_or_denied_file_is_one_of_the_corrupt_ones(tmp_path, write_files, encode):
    path = write_files(tmp_path / "set.zip", unlabelled(encode))
    data = bytearray(path.read_bytes())
    data[data.index(encode(50)) + 20] ^= 255  # the checksum of this member does not fit any more
    path.write_bytes(data)
    with pytest.raises(
        DataError, match=r"set\.zip/5\.png: cannot be read \(Bad CRC-32.*; fix or remove it, or set data"
    ):
        ImageFolder(root=str(path), holdout=0).load("train")
    with pytest.warns(UserWarning, match=r"left out 1 of 20 files.*\n.*5\.png: cannot be read \(Bad CRC-32"):
        assert len(ImageFolder(root=str(path), holdout=0, corrupt="skip").load("train")) == 19


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "I;16"])
def test_awkward_modes_name_the_file_and_the_option(mode, tmp_path):
    (tmp_path / "set").mkdir()
    picture = Image.fromarray(np.full((8, 8), 500, np.uint16)) if mode == "I;16" else Image.new(mode, (8, 8))
    for i in range(3):
        picture.save(tmp_path / "set" / f"{i}.png")
    root = str(tmp_path / "set")
    with pytest.raises(DataError, match=r"set/\d\.png: mode .*set data\.channels"):
        ImageFolder(root=root).load("train")
    assert ImageFolder(root=root, channels=1).load("train").shape == (1, 8, 8)


def test_an_empty_folder_and_an_unseen_archive_say_what_to_do(tmp_path, write_files, encode):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no image files .* change data\.root"):
        ImageFolder(root=str(tmp_path / "empty")).load("train")
    write_files(tmp_path / "saved", {"train/data-00000-of-00001.arrow": b""})
    with pytest.raises(DataError, match=r"huggingface with data\.path = '.*saved'"):
        ImageFolder(root=str(tmp_path / "saved")).load("train")
    write_files(tmp_path / "one" / "images.zip", {"a.png": encode(1)})
    with pytest.raises(DataError, match=r"set data\.root = '.*images\.zip'"):
        ImageFolder(root=str(tmp_path / "one")).load("train")
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        ImageFolder(root=str(tmp_path / "nowhere")).load("train")


def test_one_image_trains_in_batches_of_one_only(tmp_path, write_files, encode):
    root = str(write_files(tmp_path / "set", {"a.png": encode(1)}))
    data = ImageFolder(root=root)
    with pytest.raises(DataError, match=r"cannot fill a batch of 100; lower data\.batch_size to at most 1"):
        Batches(data.load("train"), data, 0)
    one = ImageFolder(root=root, batch_size=1)
    assert Batches(one.load("train"), one, 0).batch(5).x.shape == (1, 3, 8, 8)
    with pytest.raises(DataError, match="test"):
        data.load("test")


def test_no_hold_out_says_so_when_test_images_are_wanted(tmp_path, write_files, encode):
    root = str(write_files(tmp_path / "set", unlabelled(encode)))
    with pytest.raises(DataError, match=r"data\.holdout is 0"):
        ImageFolder(root=root, holdout=0).load("test")


def test_limit_takes_a_fair_sample_without_decoding_the_rest(tmp_path, write_files, encode):
    files = {f"{kind}/{i}.png": encode(9) for kind in "ab" for i in range(40)}
    root = write_files(tmp_path / "set", files)
    images = ImageFolder(root=str(root), limit=20, holdout=0).load("train")
    assert len(images) == 20
    assert 3 < int(images.labels.sum()) < 17


def test_the_root_is_required_and_typed():
    with pytest.raises(TypeError):
        ImageFolder()
    with pytest.raises(ConfigError, match="root"):
        ImageFolder(root=Path("x"))


@pytest.mark.skipif("HEBM_TEST_DATA" not in os.environ, reason="set HEBM_TEST_DATA to a folder with cifar10-jpeg")
def test_the_real_cifar_archives():
    root = Path(os.environ["HEBM_TEST_DATA"]) / "cifar10-jpeg"
    data = ImageFolder(root=str(root))
    images = data.load("test")
    assert (len(images), images.shape, len(images.classes)) == (10000, (3, 32, 32), 10)
    assert torch.bincount(images.labels).tolist() == [1000] * 10
    with tarfile.open(root / "test.tar.gz") as archive:
        file = archive.extractfile("test/airplane/0000.jpg")
        first = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 127.5 - 1
    matches = (pixels(images) - first).abs().amax((1, 2, 3)) < 1e-6
    assert matches.sum() == 1
    assert images.classes[int(images.labels[matches.nonzero()[0, 0]])] == "airplane"
