"""Checks of the splits of a data set. Every check is called with a recipe whose files exist."""

from __future__ import annotations

import re

import torch

from hebm.data.dataset_recipe import DatasetRecipe
from hebm.data.images import Images
from hebm.errors import DataError
from hebm.testing.promises import expect, expect_equal, expect_shape, no_global_randomness

SPLITS = ("train", "test")


def _first(images: Images, most: int = 16) -> torch.Tensor:
    return torch.arange(min(most, len(images)))


def _agreed(images: Images) -> tuple[tuple[int | str, ...], ...]:
    return tuple(images.shape), tuple(images.classes), tuple(images.attributes)


def check_splits(recipe: DatasetRecipe) -> None:
    """Check that both splits load, are not empty, and agree in shape, classes and attributes.

    An unknown split must raise a `DataError`.
    """
    train, test = (recipe.load(split) for split in SPLITS)
    expect(
        len(train) > 0 and len(test) > 0,
        "images in both splits",
        f"{len(train)} in train, {len(test)} in test",
        "hold out some images for the test split",
    )
    same = _agreed(train) == _agreed(test)
    seen = f"{_agreed(train)} in train, {_agreed(test)} in test"
    expect(same, "equal shape, classes and attributes in both splits", seen, "convert the images in source()")
    try:
        recipe.load("no-such-split")
    except DataError:
        return
    expect(
        False,
        "load('no-such-split') raises DataError",
        "no error",
        "derive the class from hebm.data.dataset_recipe.ImageData",
    )


def check_range(recipe: DatasetRecipe) -> None:
    """Check that `read` returns float32 `(B, C, H, W)` in [−1, 1], not all equal."""
    for split in SPLITS:
        images = recipe.load(split)
        x = images.read(_first(images))
        fix = "return uint8 pixels by ArrayImages or LazyImages, which convert them to float32 in [-1, 1]"
        expect_shape(f"images of the {split} split", x, (len(_first(images)), *images.shape), fix)
        expect(x.dtype == torch.float32, f"float32 images in the {split} split", str(x.dtype), fix)
        low, high = float(x.min()), float(x.max())
        expect(
            -1 <= low < high <= 1,
            f"values in [-1, 1], not all equal, in the {split} split",
            f"{low:g} to {high:g}",
            fix,
        )


def check_random_access(recipe: DatasetRecipe) -> None:
    """Check that image i is the same if read alone, in another order, twice, or after loading again."""
    images, again = recipe.load("train"), recipe.load("train")
    whole = images.read(_first(images))
    fix = "in read(), do not augment images and keep no state between calls; list files in sorted order"
    back = images.read(_first(images).flip(0)).flip(0)
    expect_equal("images read in another order are the same", back, whole, fix)
    expect_equal("an image read alone is the same as in a batch", images.read(torch.tensor([0])), whole[:1], fix)
    expect_equal(
        "an image that is twice in a batch is the same each time", images.read(torch.tensor([0, 0])), whole[[0, 0]], fix
    )
    expect_equal("a split that is loaded again has the same images", again.read(_first(again)), whole, fix)


def check_labels(recipe: DatasetRecipe) -> None:
    """Check that labels are None, int64 `(N,)` class indices, or int64 `(N, A)` in {0, 1} for A attributes."""
    for split in SPLITS:
        images = recipe.load(split)
        labels, n, wide = images.labels, len(images.classes), len(images.attributes)
        expect(not (n and wide), "classes or attributes", "classes and attributes", "remove one of them")
        if labels is None:
            continue
        shape = (len(images), wide) if wide else (len(images),)
        expect_shape(
            f"labels of the {split} split", labels, shape, "return one label per image, or per image and attribute"
        )
        expect(labels.dtype == torch.int64, "int64 labels", str(labels.dtype), "use labels.long()")
        span, most = (int(labels.min()), int(labels.max())), 2 if wide else n
        inside = span[0] >= 0 and (most == 0 or span[1] < most)
        names = f"{wide} attributes" if wide else f"{n} classes"
        fix = "use labels that index into classes from 0, and attributes that are 0 or 1"
        expect(inside, f"labels that fit {names}", f"labels from {span[0]} to {span[1]}", fix)


def check_fingerprint(recipe: DatasetRecipe) -> None:
    """Check that a split's fingerprint has 64 hex digits, repeats, and differs from the other split's."""
    first, again, test = (recipe.load(split).fingerprint() for split in ("train", "train", "test"))
    fix = "return self.digest(…) of the content of the split, without times and absolute paths"
    expect(re.fullmatch("[0-9a-f]{64}", first) is not None, "a fingerprint of 64 hex digits", first[:80], fix)
    expect(first == again, "equal fingerprints of the same split", "different ones", fix)
    expect(first != test, "different fingerprints of the two splits", "equal ones", fix)


def check_no_global_rng(recipe: DatasetRecipe) -> None:
    """Check that loading and reading use no global generator."""
    with no_global_randomness("the data set"):
        images = recipe.load("train")
        images.read(_first(images))
