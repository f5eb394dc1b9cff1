"""Whatever the tree of an image folder: each image is in one split, is counted as left out, or the tree is refused."""

import re
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quiet import QUIET
from written_images import encoded, write

from hebm.errors import DataWarning, HebmError
from hebm_plugins.datasets.folder_layout import READINGS
from hebm_plugins.datasets.image_folder import ImageFolder

FOLDERS = st.sampled_from(["train", "Test", "val", "training_set", "cat", "dog", "a b", "ü", ".hid", "images", "2024"])
ENDS = st.sampled_from([".png", ".PNG", ".jfif", "", ".tiff", ".txt"])
NAMES = st.builds(
    lambda folders, stem, end: "/".join([*folders, f"{stem}{end}"]),
    st.lists(FOLDERS, max_size=3),
    st.integers(0, 30),
    ENDS,
)
TREES = st.lists(NAMES, min_size=1, max_size=14, unique=True).filter(
    lambda names: not any(other.startswith(f"{name}/") for name in names for other in names)
)
PLACES = st.sampled_from(["set", "set.zip", "set.tar", "set.tar.gz"])


def told_apart(images):
    """The first pixels of each image, which no two share."""
    return [tuple(row) for row in images.read(torch.arange(len(images))).flatten(1)[:, :24].tolist()]


def loaded(data):
    """Training and test images, told apart; or the error that refuses them."""
    try:
        return [told_apart(data.load(split)) for split in ("train", "test")]
    except HebmError as error:
        return error


def accounted_for(names, place, reading, holdout):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        root = write(Path(folder) / place, {name: encoded(5 * i, side=4) for i, name in enumerate(names)})
        data = ImageFolder(root=str(root), folders=reading, holdout=holdout)
        found = loaded(data)
    if isinstance(found, HebmError):
        assert "set" in str(found) or "data." in str(found)  # the place, or the key
        return
    train, test = found
    assert len({*train, *test}) == len(train) + len(test), "an image is in both splits, or in one twice"
    lines = {str(w.message) for w in said if issubclass(w.category, DataWarning)}
    left_out = sum(int(re.match(r"([\d,]+) file", line)[1]) for line in lines)
    assert len(train) + len(test) + left_out == len(names), lines


CASES = (TREES, PLACES, st.sampled_from(READINGS), st.sampled_from([0.0, 0.1, 0.5]))


@given(*CASES)
@settings(max_examples=60, **QUIET)
def test_every_image_of_a_tree_is_accounted_for(names, place, reading, holdout):
    accounted_for(names, place, reading, holdout)


@pytest.mark.slow
@given(*CASES)
@settings(max_examples=2000, **QUIET)
def test_every_image_of_thousands_of_trees_is_accounted_for(names, place, reading, holdout):
    accounted_for(names, place, reading, holdout)
