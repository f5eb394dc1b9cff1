"""What the options of a data set, its files and its decoder promise. Every check is called with a recipe."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import torch
from PIL import Image

from hebm.config.recipes import fields_of
from hebm.data.batches import Batches
from hebm.data.dataset_recipe import DatasetRecipe, ImageData
from hebm.data.images import Images
from hebm.errors import DataError, HebmError
from hebm.testing.promises import expect_equal, expect_shape, promise

MOST_BYTES = 2**26
"""Larger folders are not copied."""
MOVED = 7.0 * 24 * 3600
"""By how many seconds the times of copied files are put back."""


def _first(images: Images, most: int = 8) -> torch.Tensor:
    return torch.arange(min(most, len(images)))


def _with(recipe: DatasetRecipe, **fields: Any) -> Any:
    """Return the recipe with other fields."""
    return attrs.evolve(recipe, **fields)  # type: ignore[misc]


# ---------------------------------------------------------------- options


def check_batches(recipe: DatasetRecipe) -> None:
    """A training batch has `batch_size` >= 1 images; `flip` mirrors some of them, and `read` mirrors none."""
    promise(recipe.batch_size >= 1, "batch_size >= 1", str(recipe.batch_size), "option(…, low=1)")
    if not {"flip", "workers"} <= {field.name for field in fields_of(type(recipe))}:
        return  # the registry refuses such a recipe
    images = recipe.load("train")
    few = _with(recipe, batch_size=min(recipe.batch_size, len(images)))
    plain, flipped = (Batches(images, _with(few, flip=flip, workers=0), seed=0).batch(0) for flip in (False, True))
    expect_shape("x", plain.x, (few.batch_size, *images.shape), "inherit the fields of ImageData unchanged")
    mirrored = plain.x.flip(3)
    same, turned = ((flipped.x == x).flatten(1).all(1) for x in (plain.x, mirrored))
    fix = "do not mirror images in read(): batches do"
    promise(bool((same | turned).all()), "flip leaves an image or mirrors it", "other images", fix)
    x, y = (_with(recipe, flip=flip).load("train").read(_first(images)) for flip in (False, True))
    expect_equal("`read` gives the same images with flip = true", y, x, fix)


def check_limit(recipe: DatasetRecipe) -> None:
    """`limit = n` keeps the first n images of each split with their labels. Passes where there is no such key."""
    if not isinstance(recipe, ImageData):
        return
    fix = "leave `limit` to ImageData.load, and return all images from source()"
    for split in ("train", "test"):
        whole = _with(recipe, limit=None).load(split)
        n = max(1, min(3, len(whole) - 1))
        few = _with(recipe, limit=n).load(split)
        promise(len(few) == min(n, len(whole)), f"{n} images of {split}", str(len(few)), fix)
        expect_equal("the first images", few.read(torch.arange(n)), whole.read(torch.arange(n)), fix)
        if whole.labels is not None and few.labels is not None:
            expect_equal("the labels of the first images", few.labels, whole.labels[:n], fix)
        other = len(whole) == n or few.fingerprint() != whole.fingerprint()
        promise(other, "another fingerprint with fewer images", "the same one", "digest() what makes the split")


def check_channels(recipe: DatasetRecipe) -> None:
    """`channels = 1` gives grey images, 3 colour ones of the same size. Passes where there is no such key."""
    if not isinstance(recipe, ImageData):
        return
    shape = recipe.load("train").shape
    for channels in (1, 3):
        images = _with(recipe, channels=channels).load("train")
        wanted = (channels, *shape[1:])
        promise(tuple(images.shape) == wanted, f"shape {wanted}", str(tuple(images.shape)), "keep ImageData.load")
        x = images.read(_first(images))
        expect_shape(f"images with channels = {channels}", x, (len(x), *wanted), "convert in ImageData.load")
        inside = bool(((x >= -1) & (x <= 1)).all())
        promise(inside, "values in [-1, 1]", f"{float(x.min()):g} to {float(x.max()):g}", "convert the pixels, not x")


def check_without(recipe: DatasetRecipe) -> None:
    """`without` leaves a class out of training and keeps it in the test split. Passes for images without classes."""
    whole = {split: recipe.load(split) for split in ("train", "test")}
    labels = whole["train"].labels
    if not isinstance(recipe, ImageData) or labels is None or not whole["train"].classes or recipe.without:
        return
    if int(labels.min()) == int(labels.max()):
        return
    left_out = int(labels[0])
    name, fix = whole["train"].classes[left_out], "leave `without` to ImageData.load"
    found = {split: _with(recipe, without=(name,)).load(split) for split in ("train", "test")}
    seen = found["train"].labels
    promise(seen is not None and not bool((seen == left_out).any()), f"no {name!r} in training", "it is there", fix)
    promise(found["train"].classes == whole["train"].classes, "the same names of classes", "others", fix)
    promise(len(found["test"]) == len(whole["test"]), "the same test split", f"{len(found['test'])} images", fix)


# ---------------------------------------------------------------- the decoder


def check_decoder(recipe: DatasetRecipe) -> None:
    """`decoder(shape)` makes uint8 pixels of that shape from grey and colour pictures, and names a damaged one."""
    shape = recipe.load("train").shape
    _, height, width = shape
    sizes = [(width, height)] if width != height else [(width, height), (2 * width + 3, 2 * height + 1)]
    decode = recipe.decoder(shape)
    for mode in ("L", "RGB"):
        for width, height in sizes:
            pixels = decode(_picture(mode, width, height), f"{mode}.png")
            fix = "pass channels and size of the shape to hebm.data.decode.Decoder"
            expect_shape(f"a picture of mode {mode}, {width}×{height}", pixels, shape, fix)
            promise(pixels.dtype == torch.uint8, "uint8 pixels", str(pixels.dtype), "leave the range to the images")
    try:
        decode(b"no picture", "broken.png")
    except DataError as error:
        promise("broken.png" in str(error), "a DataError with the name", str(error), "name the file in the message")
        return
    except Exception as error:
        seen = f"{type(error).__name__}: {error}"
    else:
        seen = "no error"
    promise(False, "DataError for a damaged file", seen, "decode with hebm.data.decode.Decoder")


def _picture(mode: str, width: int, height: int) -> bytes:
    """Return a PNG of a pattern."""
    shape = (height, width) if mode == "L" else (height, width, 3)
    pixels = (np.arange(np.prod(shape)) % 251).astype(np.uint8).reshape(shape)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


# ---------------------------------------------------------------- processes


def check_workers(recipe: DatasetRecipe) -> None:
    """A split travels to background processes: pickled and read there, its images are the same."""
    images = recipe.load("train")
    fix = "keep no lambda, open file or lock in the images; a class with __call__ instead of a closure"
    try:
        twin: Any = pickle.loads(pickle.dumps(images))
    except Exception as error:
        promise(False, "images that can be pickled (data.workers)", f"{type(error).__name__}: {error}", fix)
    expect_equal("images read in a worker", twin.read(_first(images)), images.read(_first(images)), fix)


def check_other_process(recipe: DatasetRecipe) -> None:
    """Another process finds the same fingerprints."""
    own = _fingerprints(recipe)
    fix = "no hash(), id(), set order, time or process number in fingerprint(); self.digest(…) of bytes"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            # as bytes: a pool would move the recipe's tensors to shared memory, away from arrays that view them
            other = pool.submit(_fingerprints_of, pickle.dumps(recipe)).result()
        except Exception as error:
            promise(False, "a recipe that another process can load", f"{type(error).__name__}: {error}", fix)
    promise(own == other, "the same fingerprints in another process", "other ones", fix)


def _fingerprints_of(pickled: bytes) -> tuple[str, ...]:
    return _fingerprints(pickle.loads(pickled))


def _fingerprints(recipe: DatasetRecipe) -> tuple[str, ...]:
    return tuple(recipe.load(split).fingerprint() for split in ("train", "test"))


# ---------------------------------------------------------------- files


def _places(recipe: DatasetRecipe) -> dict[str, Path]:
    """Return the files and folders that the recipe's keys name, by key."""
    found = {}
    for field in fields_of(type(recipe)):
        path, value = field.metadata.get("path", False), getattr(recipe, field.name)
        if isinstance(value, str) and (path(recipe) if callable(path) else path):
            found[field.name] = Path(value)
    return found


@contextmanager
def _copied(recipe: DatasetRecipe) -> Iterator[Any]:
    """Yield the same recipe on copies of its files, in another folder and with other times; None without files."""
    places = {name: path for name, path in _places(recipe).items() if path.exists() and path.is_absolute()}
    if not places or sum(map(_size, places.values())) > MOST_BYTES:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        moved = {}
        for name, path in places.items():
            moved[name] = Path(folder) / name / path.name
            moved[name].parent.mkdir()
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, moved[name])
        for path in Path(folder).rglob("*"):
            os.utime(path, (path.stat().st_atime - MOVED, path.stat().st_mtime - MOVED))
        yield _with(recipe, **{name: str(path) for name, path in moved.items()})


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def check_moved_files(recipe: DatasetRecipe) -> None:
    """Fingerprints are the same for copies of the files elsewhere. Passes where no key names a file that exists."""
    with _copied(recipe) as moved:
        if moved is not None:
            same = _fingerprints(moved) == _fingerprints(recipe)
            fix = "digest contents and names relative to the root, neither times nor absolute paths"
            promise(same, "the same fingerprints after the files were copied", "other ones", fix)


def check_changed_files(recipe: DatasetRecipe) -> None:
    """A fingerprint is another one when the images are. Passes where no key names a file that exists."""
    with _copied(recipe) as moved:
        if moved is None:
            return
        before = {split: moved.load(split).fingerprint() for split in ("train", "test")}
        changed = [_invert(path) for name in _places(moved) for path in _files(Path(getattr(moved, name)))]
        if any(changed):
            same = [split for split in before if moved.load(split).fingerprint() == before[split]]
            fix = "digest the pixels: self.sample_digest(), or all of them"
            promise(not same, "another fingerprint for other pixels", f"the same of {', '.join(same)}", fix)


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _invert(path: Path) -> bool:
    """Invert the picture or the array of bytes in a file; return whether it is one."""
    if path.suffix == ".npy":
        values = np.load(path, allow_pickle=False)
        if values.dtype == np.uint8:
            np.save(path, 255 - values)
        return bool(values.dtype == np.uint8)
    if path.suffix.lower() not in (".png", ".bmp"):
        return False
    with Image.open(path) as opened:
        if opened.mode not in ("L", "RGB"):
            return False
        inverted = opened.point(lambda value: 255 - value)
    inverted.save(path)
    return True


def check_missing_files(recipe: DatasetRecipe) -> None:
    """A file or folder that does not exist is a `DataError` that names it. Passes where no key names a place."""
    for name in _places(recipe):
        with tempfile.TemporaryDirectory() as folder:
            nowhere = str(Path(folder) / "no-such-place")
            absent = _with(recipe, **{name: nowhere})
            fix = f"raise DataError with the path, and with the key data.{name}"
            try:
                for split in ("train", "test"):
                    absent.load(split)
            except DataError as error:
                promise(nowhere in str(error), f"a DataError that names {nowhere}", str(error), fix)
                continue
            except HebmError as error:
                promise(False, "a DataError", f"{type(error).__name__}: {error}", fix)
            except Exception as error:
                promise(False, f"DataError for a missing {name}", f"{type(error).__name__}: {error}", fix)
            promise(False, f"DataError for a missing {name}", "no error", fix)
