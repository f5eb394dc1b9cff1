"""Checks of the options of a data set and of its decoder. Every check is called with a recipe."""

from __future__ import annotations

import io
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image

from hebm.config.recipes import fields_of
from hebm.data.batches import Batches
from hebm.data.dataset_recipe import DatasetRecipe, ImageData
from hebm.data.images import Images
from hebm.errors import DataError
from hebm.testing.promises import expect, expect_equal, expect_shape

DRAWS = 16
"""Batches in which `flip` must mirror at least one image."""


def first_indices(images: Images, most: int = 8) -> torch.Tensor:
    """Return the indices of the first images, at most `most`."""
    return torch.arange(min(most, len(images)))


def changed(recipe: DatasetRecipe, **fields: Any) -> Any:
    """Return a copy of the recipe with some fields changed."""
    return attrs.evolve(recipe, **fields)  # type: ignore[misc]


# ---------------------------------------------------------------- options


def check_batches(recipe: DatasetRecipe) -> None:
    """Check that `batch_size` ≥ 1, and that `flip` mirrors some images of batches but changes nothing in `read`."""
    expect(
        recipe.batch_size >= 1, "batch_size >= 1", str(recipe.batch_size), "declare batch_size with option(…, low=1)"
    )
    if not {"flip", "workers"} <= {field.name for field in fields_of(type(recipe))}:
        return  # the registry rejects such a recipe
    images = recipe.load("train")
    few = changed(recipe, batch_size=min(recipe.batch_size, len(images)))
    plain, flipped = (Batches(images, changed(few, flip=flip, workers=0), seed=0).batch(0) for flip in (False, True))
    expect_shape("x of a batch", plain.x, (few.batch_size, *images.shape), "inherit the fields of ImageData unchanged")
    mirrored = plain.x.flip(3)
    same, turned = ((flipped.x == x).flatten(1).all(1) for x in (plain.x, mirrored))
    fix = "do not mirror images in read(); hebm.data.batches.Batches mirrors them"
    expect(bool((same | turned).all()), "`flip` keeps or mirrors each image of a batch", "other changes", fix)
    _expect_mirrored(few, images)
    x, y = (changed(recipe, flip=flip).load("train").read(first_indices(images)) for flip in (False, True))
    expect_equal("`read` returns the same images with flip = true and false", y, x, fix)


def _expect_mirrored(recipe: DatasetRecipe, images: Images) -> None:
    """Raise unless `flip` mirrors an image in `DRAWS` batches. Symmetric images show no difference, and pass."""
    plain, flipped = (Batches(images, changed(recipe, flip=flip, workers=0), seed=0) for flip in (False, True))
    pairs = [(plain.batch(i).x, flipped.batch(i).x) for i in range(DRAWS)]
    asymmetric = any(not torch.equal(x, x.flip(3)) for x, _ in pairs)
    mirrored = any(not torch.equal(x, y) for x, y in pairs)
    fix = "inherit the field `flip` of ImageData unchanged"
    seen = f"no mirrored image in {DRAWS} batches"
    expect(mirrored or not asymmetric, "`flip = true` mirrors about half of the images of batches", seen, fix)


def check_limit(recipe: DatasetRecipe) -> None:
    """Check that `limit = n` keeps the first n images of each split with their labels.

    Passes for recipes without this key.
    """
    if not isinstance(recipe, ImageData):
        return
    fix = "return all images from source(), because ImageData.load applies `limit`"
    for split in ("train", "test"):
        whole = changed(recipe, limit=None).load(split)
        n = max(1, min(3, len(whole) - 1))
        few = changed(recipe, limit=n).load(split)
        expect(len(few) == min(n, len(whole)), f"limit = {n} keeps {n} images of the {split} split", str(len(few)), fix)
        expect_equal(
            f"limit = {n} keeps the first images of the {split} split",
            few.read(torch.arange(n)),
            whole.read(torch.arange(n)),
            fix,
        )
        if whole.labels is not None and few.labels is not None:
            expect_equal(f"limit = {n} keeps the first labels of the {split} split", few.labels, whole.labels[:n], fix)
        other = len(whole) == n or few.fingerprint() != whole.fingerprint()
        fix = "include the images of the split in the fingerprint, by self.digest(…)"
        expect(other, "the fingerprint depends on `limit`", "equal fingerprints for all and for fewer images", fix)


def check_channels(recipe: DatasetRecipe) -> None:
    """Check that `channels = 1` gives grey images, and 3 colour images, of the same size.

    Passes for recipes without this key.
    """
    if not isinstance(recipe, ImageData):
        return
    shape = recipe.load("train").shape
    for channels in (1, 3):
        images = changed(recipe, channels=channels).load("train")
        wanted = (channels, *shape[1:])
        seen = str(tuple(images.shape))
        expect(
            tuple(images.shape) == wanted,
            f"shape {wanted} with channels = {channels}",
            seen,
            "do not override ImageData.load",
        )
        x = images.read(first_indices(images))
        expect_shape(
            f"images with channels = {channels}",
            x,
            (len(x), *wanted),
            "do not convert channels, because ImageData.load does",
        )
        inside = bool(((x >= -1) & (x <= 1)).all())
        expect(
            inside,
            f"values in [-1, 1] with channels = {channels}",
            f"{float(x.min()):g} to {float(x.max()):g}",
            "convert channels before pixels are scaled to [-1, 1]",
        )


def check_without(recipe: DatasetRecipe) -> None:
    """Check that `without` removes a class from the training split only. Passes for images without classes."""
    whole = {split: recipe.load(split) for split in ("train", "test")}
    labels = whole["train"].labels
    if not isinstance(recipe, ImageData) or labels is None or not whole["train"].classes or recipe.without:
        return
    if int(labels.min()) == int(labels.max()):
        return
    left_out = int(labels[0])
    name, fix = (
        whole["train"].classes[left_out],
        "return all classes from source(), because ImageData.load applies `without`",
    )
    found = {split: changed(recipe, without=(name,)).load(split) for split in ("train", "test")}
    seen = found["train"].labels
    expect(
        seen is not None and not bool((seen == left_out).any()),
        f"no image of class {name!r} in the training split",
        "some images of it",
        fix,
    )
    expect(
        found["train"].classes == whole["train"].classes,
        f"`without` keeps the class names {whole['train'].classes}",
        str(found["train"].classes),
        fix,
    )
    kept, n = len(found["test"]), len(whole["test"])
    expect(kept == n, "`without` keeps the test split", f"{kept} of {n} images", fix)


# ---------------------------------------------------------------- the decoder


def check_decoder(recipe: DatasetRecipe) -> None:
    """Check that `decoder(shape)` turns grey and colour image files into uint8 pixels of this shape.

    For a damaged file it must raise a `DataError` with the file's name.
    """
    shape = recipe.load("train").shape
    _, height, width = shape
    sizes = [(width, height)] if width != height else [(width, height), (2 * width + 3, 2 * height + 1)]
    decode = recipe.decoder(shape)
    for mode in ("L", "RGB"):
        for width, height in sizes:
            pixels = decode(_picture(mode, width, height), f"{mode}.png")
            fix = "pass the number of channels and the size to hebm.data.decode.Decoder"
            expect_shape(f"the decoded image of mode {mode} and {width}×{height} pixels", pixels, shape, fix)
            expect(
                pixels.dtype == torch.uint8,
                "uint8 pixels from the decoder",
                str(pixels.dtype),
                "do not scale pixels in the decoder",
            )
    try:
        decode(b"not an image", "broken.png")
    except DataError as error:
        expect(
            "broken.png" in str(error),
            "a DataError that names the damaged file",
            str(error),
            "include the file's name in the message",
        )
        return
    except Exception as error:
        seen = f"{type(error).__name__}: {error}"
    else:
        seen = "no error"
    expect(False, "a DataError for a damaged file", seen, "decode with hebm.data.decode.Decoder")


def _picture(mode: str, width: int, height: int) -> bytes:
    """Return a PNG file with a pattern."""
    shape = (height, width) if mode == "L" else (height, width, 3)
    pixels = (np.arange(np.prod(shape)) % 251).astype(np.uint8).reshape(shape)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
