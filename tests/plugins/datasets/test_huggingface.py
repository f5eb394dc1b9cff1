"""The data set `huggingface`, on local files only: the library is offline in all tests."""

import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from hebm.config.experiment import Experiment
from hebm.data.decode import CorruptImage
from hebm.errors import ConfigError, DataError, DataWarning
from hebm.testing import check_dataset
from hebm_plugins.datasets.hub_rows import ImageRows
from hebm_plugins.datasets.huggingface import HuggingFace

datasets = pytest.importorskip("datasets")


def pixels(n, seed=0, side=8, channels=3):
    shape = (n, side, side, channels)[: 4 if channels == 3 else 3]
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def rows(n=6, seed=0, names=("cat", "dog"), **more):
    """A data set of n images, with labels 0 and 1 in turn."""
    values = {"image": [Image.fromarray(one) for one in pixels(n, seed)], "label": [i % 2 for i in range(n)], **more}
    label = datasets.ClassLabel(names=list(names)) if names else datasets.Value("int64")
    kinds = {"image": datasets.Image(), "label": label, **{name: datasets.Value("string") for name in more}}
    return datasets.Dataset.from_dict(values, features=datasets.Features(kinds))


@pytest.fixture
def saved(tmp_path):
    """A folder made by save_to_disk, with two splits."""
    path = tmp_path / "saved"
    datasets.DatasetDict(train=rows(8), test=rows(4, seed=1)).save_to_disk(path)
    return path


def loaded(recipe, split="train"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return recipe.load(split)


def said(recipe):
    with pytest.warns(DataWarning) as found:
        recipe.load("train")
    return str(found[0].message)


def refused(recipe, split="train"):
    with pytest.raises(DataError) as error:
        loaded(recipe, split)
    return str(error.value)


def bag(x):
    """Images in any order."""
    return {tuple(one.flatten().tolist()) for one in x}


# ---------------------------------------------------------------- files


@pytest.mark.filterwarnings("ignore::hebm.errors.DataWarning")
def test_a_saved_folder_keeps_the_promises_of_a_data_set(saved):
    check_dataset(HuggingFace(path=str(saved)))


@pytest.mark.parametrize("cache", [True, False])
def test_images_and_names_of_classes_are_those_of_the_folder(saved, cache):
    images = loaded(HuggingFace(path=str(saved), cache=cache))
    assert images.classes == ("cat", "dog")
    expected = torch.from_numpy(pixels(8)).permute(0, 3, 1, 2).float() / 127.5 - 1
    read = images.read(torch.arange(8))
    assert bag(read) == bag(expected)
    own = [int((expected == one).flatten(1).all(1).nonzero()) for one in read]
    assert images.labels.tolist() == [i % 2 for i in own]
    assert len(loaded(HuggingFace(path=str(saved)), "test")) == 4


@pytest.mark.parametrize("form", ["file", "folder", "without its features", "one split, saved"])
def test_other_forms_of_the_same_images_are_read_alike(tmp_path, form):
    whole, target = rows(), tmp_path / "set"
    if form == "file":
        whole.to_parquet(target := tmp_path / "set [1].parquet")
    elif form == "folder":
        target.mkdir()
        whole.to_parquet(target / "train-00000-of-00001.parquet")
    elif form == "without its features":
        target = tmp_path / "plain.parquet"
        raw = whole.cast_column("image", datasets.Image(decode=False)).to_pandas()
        raw.to_parquet(target)
    else:
        whole.save_to_disk(target)
    recipe = HuggingFace(path=str(target), holdout=0.4)
    train, test = loaded(recipe), loaded(recipe, "test")
    assert (len(train), len(test)) == (4, 2)
    read = torch.cat([train.read(torch.arange(4)), test.read(torch.arange(2))])
    assert bag(read) == bag(torch.from_numpy(pixels(6)).permute(0, 3, 1, 2).float() / 127.5 - 1)
    assert train.classes == (("0", "1") if form == "without its features" else ("cat", "dog"))


def test_images_are_decoded_as_those_of_image_folder(tmp_path):
    grey = [Image.fromarray(pixels(1, channels=1)[0]), Image.fromarray(pixels(1, 1, side=20)[0])]
    datasets.Dataset.from_dict(
        {"image": grey * 2}, features=datasets.Features({"image": datasets.Image()})
    ).save_to_disk(path := tmp_path / "set")
    assert "set data.channels" in refused(HuggingFace(path=str(path)))
    assert "set data.size" in refused(HuggingFace(path=str(path), channels=1))
    assert loaded(HuggingFace(path=str(path), channels=1, size=8)).shape == (1, 8, 8)


def test_a_row_without_a_readable_image_is_named_or_skipped(tmp_path):
    values = {"image": [{"bytes": b"none", "path": None}, None, *[Image.fromarray(one) for one in pixels(4)]]}
    datasets.Dataset.from_dict(values, features=datasets.Features({"image": datasets.Image()})).save_to_disk(
        path := tmp_path / "set"
    )
    recipe = HuggingFace(path=str(path), holdout=0.4)
    message = refused(recipe)
    assert "train/image/0:" in message
    assert "this row has no image" in message
    kept = HuggingFace(path=str(path), holdout=0.4, corrupt="skip")
    assert len(loaded(kept)) + len(loaded(kept, "test")) == 4
    with pytest.raises(CorruptImage):
        ImageRows(datasets.load_from_disk(path), "image", path, "data.path").read("1")


def test_a_missing_or_damaged_place_is_named_with_what_it_may_be(tmp_path):
    assert f"{tmp_path / 'none'}: no such file" in refused(HuggingFace(path=str(tmp_path / "none")))
    (bad := tmp_path / "bad.parquet").write_text("no table")
    assert "a folder made by save_to_disk" in refused(HuggingFace(path=str(bad)))
    assert "the network" in refused(HuggingFace(name="someone/nothing"))


# ---------------------------------------------------------------- splits and columns


def test_a_note_says_which_splits_and_columns_were_found(saved):
    message = said(HuggingFace(path=str(saved)))
    assert "training images from split 'train', test images from split 'test'" in message
    assert "images from column 'image', classes from column 'label'" in message
    named = HuggingFace(path=str(saved), train="train", test="test", image="image", label="label")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named.load("train")


def test_other_splits_are_taken_where_options_name_them(tmp_path):
    sets = datasets.DatasetDict(a=rows(6), b=rows(5, seed=1), validation=rows(3, seed=2))
    sets.save_to_disk(path := tmp_path / "set")
    assert "set data.train to one of: a, b, validation" in refused(HuggingFace(path=str(path)))
    assert "has no split 'c'; set data.test to one of: a, b" in refused(
        HuggingFace(path=str(path), train="a", test="c")
    )
    assert len(loaded(HuggingFace(path=str(path), train="a"), "test")) == 3
    assert len(loaded(HuggingFace(path=str(path), train="a", test="b"), "test")) == 5


def test_columns_are_listed_where_none_or_several_fit(tmp_path):
    rows(text=["a"] * 6).add_column("other", [0] * 6).save_to_disk(path := tmp_path / "set")
    assert "image (PIL.Image.Image)" in refused(HuggingFace(path=str(path), image="text"))
    assert "has no column 'pixels'; set data.image to one of: image, label" in refused(
        HuggingFace(path=str(path), image="pixels")
    )
    assert "has no column 'y'" in refused(HuggingFace(path=str(path), label="y"))
    assert loaded(HuggingFace(path=str(path), label="text")).classes == ("a",)
    assert loaded(HuggingFace(path=str(path), label="")).labels is None
    datasets.Dataset.from_dict({"x": [[0.0]] * 4}).save_to_disk(none := tmp_path / "none")
    assert "no column holds encoded images" in refused(HuggingFace(path=str(none)))


def test_two_columns_of_classes_need_an_option(tmp_path):
    coarse = datasets.ClassLabel(names=["animal"])
    rows().add_column("coarse", [0] * 6).cast_column("coarse", coarse).save_to_disk(path := tmp_path / "set")
    assert "set data.label to one of: label, coarse, or to ''" in refused(HuggingFace(path=str(path)))
    assert loaded(HuggingFace(path=str(path), label="coarse")).classes == ("animal",)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 1, -1, 0, 1, 0], "row 2 has no label"), ([0, 2, 0, 2, 0, 2], "not numbered 0 … 1 without a gap")],
)
def test_labels_that_are_no_classes_are_refused(tmp_path, labels, message):
    rows(names=()).remove_columns("label").add_column("label", labels).save_to_disk(path := tmp_path / "set")
    assert message in refused(HuggingFace(path=str(path)))


# ---------------------------------------------------------------- options


def test_exactly_one_place_is_needed(tmp_path):
    for options in ({}, {"path": "a", "name": "b"}, {"path": "a", "subset": "c"}):
        with pytest.raises(ConfigError, match=r"data\.path|data\.subset"):
            HuggingFace(**options)


def test_the_error_without_the_library_names_the_extra(saved, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setitem(sys.modules, "datasets.utils", None)
    with pytest.raises(ConfigError, match=r"pip install 'hebm\[hf\]'"):
        HuggingFace(path=str(saved)).load("train")


def test_progress_bars_are_as_before(saved):
    before = datasets.utils.are_progress_bars_disabled()
    loaded(HuggingFace(path=str(saved)))
    assert datasets.utils.are_progress_bars_disabled() == before


def test_it_is_a_table_of_a_file(saved):
    toml = f'data = {{type = "huggingface", path = "{saved}"}}\nbackbone.type = "two-layer"\nprior.type = "gaussian"\n'
    assert Experiment.from_toml(toml, "test").data == HuggingFace(path=str(saved))
