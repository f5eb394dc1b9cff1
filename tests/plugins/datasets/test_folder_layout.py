"""Folder names decide what is a split and what a class; two readings are an error that shows both."""

import warnings

import pytest

from hebm.errors import ConfigError, DataError, DataWarning
from hebm_plugins.datasets.folder_layout import role
from hebm_plugins.datasets.image_folder import ImageFolder


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("train", "Train", "TRAINING", "training_set", "train-images", "imgs_train", "train2017", "trn"), "train"),
        (("test", "Testing", "test_set", "TestData", "test1"), "test"),
        (("val", "valid", "Validation", "val2017", "eval", "dev"), "validation"),
        (("cats", "trainer", "contest", "0", "7", "images", "data", "validity", ""), None),
    ],
)
def test_names_of_splits_are_known_in_every_spelling(names, expected):
    assert {role(name) for name in names} == {expected}


@pytest.fixture
def folder(tmp_path, encode, write_files):
    """A data set of files by name."""

    def make(*names, **options):
        counts = {name: encode(17 * i % 200) for i, name in enumerate(names)}
        return ImageFolder(root=str(write_files(tmp_path / "set", counts)), holdout=0.25, **options)

    return make


def many(*folders, n=4):
    return [f"{folder}/{i}.png" for folder in folders for i in range(n)]


@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("training_set", "val"), ("TRAINING", "test_images")])
def test_splits_hold_classes_whatever_they_are_called(train, test, folder):
    data = folder(*many(f"{train}/cat", f"{train}/dog"), *many(f"{test}/cat", f"{test}/dog", n=2))
    for split, count in (("train", 8), ("test", 4)):
        images = data.load(split)
        assert images.classes == ("cat", "dog")
        assert len(images) == count


def test_folders_within_splits_that_hold_all_classes_are_left_aside(folder):
    data = folder(*many("train/images/cat", "train/images/dog", "test/images/cat", "test/images/dog"))
    assert data.load("test").classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "readings"),
    [
        (many("train", "bus", "car"), ["the splits 'train', leaving out", "the classes", "12 images without labels"]),
        (many("train", "test", "extra"), ["the splits", "leaving out 'extra'", "the classes", "without labels"]),
        (
            [*many("cat", "dog"), "a.png", "b.png"],
            ["the classes 'cat', 'dog', leaving out 2 image", "10 images without labels"],
        ),
    ],
)
def test_two_readings_are_an_error_that_shows_both_and_the_key(names, readings, folder):
    with pytest.raises(DataError, match=r"set the key that is meant$") as error:
        folder(*names).load("train")
    for reading in readings:
        assert reading in str(error.value)
    assert str(error.value).count("data.folders = ") == len([r for r in readings if not r.startswith("leaving")])


def test_the_key_overrules_the_names(folder):
    names = many("train", "bus", "car")
    assert folder(*names, folders="classes").load("train").classes == ("bus", "car", "train")
    assert folder(*names, folders="none").load("train").labels is None
    assert len(folder(*names, folders="none").load("train")) == 9
    with pytest.warns(DataWarning, match=r"4 files are left out \(in the folder 'bus'"):
        images = folder(*names, folders="splits").load("train")
    assert len(images) == 3  # a quarter of "train" is held out


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (many("val", "test"), r"'test', 'val' are named like splits, but none of them is for training; name one"),
        (many("test"), "none of them is for training"),
        (many("train", "training", "test"), "'train' and 'training' are both for train; remove or rename"),
        (many("cat/train", "cat/test", "dog/train", "dog/test"), "each class has folders of splits, such as cat/test"),
    ],
)
def test_splits_that_do_not_fit_are_refused(names, message, folder):
    with pytest.raises(DataError, match=message):
        folder(*names).load("train")


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (many("cat", "dog"), {"folders": "splits"}, "has no folder whose name is like"),
        (["1.png", "2.png"], {"folders": "classes"}, "has no folders"),
    ],
)
def test_a_reading_that_is_not_possible_is_refused(names, options, message, folder):
    with pytest.raises(ConfigError, match=message):
        folder(*names, **options).load("train")


def test_few_images_next_to_folders_are_left_out_and_named(folder):
    data = folder(*many("cat", "dog", n=20), "montage.png")
    with pytest.warns(DataWarning, match=r"1 file .* left out \(next to the folders 'cat', 'dog'\), .*/montage\.png"):
        images = data.load("train")
    assert images.classes == ("cat", "dog")
    assert len(images) == 30


def test_a_split_that_is_not_used_is_named(folder):
    data = folder(*many("train", "val", "test"))
    with pytest.warns(DataWarning, match=r"4 files are left out \(in the folder 'val', which is not used\)"):
        assert len(data.load("test")) == 4


def test_ordinary_folders_are_read_without_a_word(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert folder(*many("cat", "dog")).load("train").classes == ("cat", "dog")


def test_two_archives_of_one_split_are_refused(tmp_path, write_files, encode):
    for name in ("train.zip", "training.tar"):
        write_files(tmp_path / "set" / name, {"1.png": encode(1)})
    with pytest.raises(DataError, match=r"'train\.zip' and 'training\.tar' are both for train"):
        ImageFolder(root=str(tmp_path / "set")).load("train")


def test_images_next_to_archives_of_splits_are_named(tmp_path, write_files, encode):
    for name in ("Train.zip", "test_images.tar.gz"):
        write_files(tmp_path / "set" / name, {f"{i}.png": encode(i) for i in range(3)})
    write_files(tmp_path / "set", {"cover.png": encode(9)})
    with pytest.warns(DataWarning, match=r"next to the archives Train\.zip, test_images\.tar\.gz\), such as"):
        assert len(ImageFolder(root=str(tmp_path / "set")).load("test")) == 3
