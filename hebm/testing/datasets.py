"""What the splits of a data set promise. Every check is called with a recipe whose files are there."""

from __future__ import annotations

import re

import torch

from hebm.data.dataset_recipe import DatasetRecipe
from hebm.data.images import Images
from hebm.errors import DataError
from hebm.testing.promises import expect_equal, expect_shape, no_global_randomness, promise

SPLITS = ("train", "test")


def _first(images: Images, most: int = 16) -> torch.Tensor:
    return torch.arange(min(most, len(images)))


def _agreed(images: Images) -> tuple[tuple[int | str, ...], ...]:
    return tuple(images.shape), tuple(images.classes), tuple(images.attributes)


def check_splits(recipe: DatasetRecipe) -> None:
    """Both splits load, are not empty and agree in shape, classes and attributes; an unknown one is a `DataError`."""
    train, test = (recipe.load(split) for split in SPLITS)
    promise(len(train) > 0 and len(test) > 0, "images in both splits", f"{len(train)}, {len(test)}", "hold some out")
    same = _agreed(train) == _agreed(test)
    promise(same, "one shape, one list of names", f"{train.shape}, {test.shape}", "convert the images in source()")
    try:
        recipe.load("no-such-split")
    except DataError:
        return
    promise(
        False, "load('no-such-split') raises DataError", "no error", "derive from hebm.data.dataset_recipe.ImageData"
    )


def check_range(recipe: DatasetRecipe) -> None:
    """`read` gives float32 `(B, C, H, W)` in [−1, 1], not all equal."""
    for split in SPLITS:
        images = recipe.load(split)
        x = images.read(_first(images))
        fix = "return uint8 pixels through ArrayImages or LazyImages, which convert to the one range"
        expect_shape(f"{split} images", x, (len(_first(images)), *images.shape), fix)
        promise(x.dtype == torch.float32, "float32", str(x.dtype), fix)
        low, high = float(x.min()), float(x.max())
        promise(-1 <= low < high <= 1, "values in [-1, 1], not all equal", f"{low:g} to {high:g}", fix)


def check_random_access(recipe: DatasetRecipe) -> None:
    """Image i is the same however it is asked for: alone, in another order, twice, from another load."""
    images, again = recipe.load("train"), recipe.load("train")
    whole = images.read(_first(images))
    fix = "no augmentation in read(), no state between calls, files in sorted order"
    back = images.read(_first(images).flip(0)).flip(0)
    expect_equal("reading in another order gives the same images", back, whole, fix)
    expect_equal("an image read alone is the same", images.read(torch.tensor([0])), whole[:1], fix)
    expect_equal("an image read twice in one batch", images.read(torch.tensor([0, 0])), whole[[0, 0]], fix)
    expect_equal("another load gives the same images", again.read(_first(again)), whole, fix)


def check_labels(recipe: DatasetRecipe) -> None:
    """Labels are None, int64 `(N,)` in the range of the classes, or int64 `(N, A)` in {0, 1} for A attributes."""
    for split in SPLITS:
        images = recipe.load(split)
        labels, n, wide = images.labels, len(images.classes), len(images.attributes)
        promise(not (n and wide), "classes or attributes", "both", "leave out either")
        if labels is None:
            continue
        shape = (len(images), wide) if wide else (len(images),)
        expect_shape(f"{split} labels", labels, shape, "one label per image (and attribute)")
        promise(labels.dtype == torch.int64, "int64 labels", str(labels.dtype), "labels.long()")
        span, most = (int(labels.min()), int(labels.max())), 2 if wide else n
        inside = span[0] >= 0 and (most == 0 or span[1] < most)
        names = f"{wide} attributes" if wide else f"{n} classes"
        fix = "index into classes, from 0; attributes are 0 or 1"
        promise(inside, f"labels of {names}", f"{span[0]} to {span[1]}", fix)


def check_fingerprint(recipe: DatasetRecipe) -> None:
    """A split's fingerprint is 64 hex digits, repeats, and differs from the other split's."""
    first, again, test = (recipe.load(split).fingerprint() for split in ("train", "train", "test"))
    fix = "return self.digest(...) of what makes the split, neither time nor absolute paths in it"
    promise(re.fullmatch("[0-9a-f]{64}", first) is not None, "64 hex digits", first[:80], fix)
    promise(first == again, "the same split has the same fingerprint", "two different ones", fix)
    promise(first != test, "another split has another fingerprint", "the same one", fix)


def check_no_global_rng(recipe: DatasetRecipe) -> None:
    """Loading and reading touch no global generator."""
    with no_global_randomness("the data set"):
        images = recipe.load("train")
        images.read(_first(images))
