"""Checks of a data set: its options, decoder, worker processes and files. Each check takes a recipe."""

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
"""Checks that copy files skip files of more than this many bytes in total."""
MOVED = 7.0 * 24 * 3600
"""Age added to the timestamps of copied files, in seconds."""


def _first(images: Images, most: int = 8) -> torch.Tensor:
    return torch.arange(min(most, len(images)))


def _with(recipe: DatasetRecipe, **fields: Any) -> Any:
    """Return a copy of the recipe with some fields changed."""
    return attrs.evolve(recipe, **fields)  # type: ignore[misc]


# ---------------------------------------------------------------- options


def check_batches(recipe: DatasetRecipe) -> None:
    """A training batch has `batch_size` >= 1 images. `flip` mirrors some images of a batch; `read` mirrors none."""
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
    promise(
        bool((same | turned).all()), "`flip` keeps or mirrors each image of a batch", "it changes images otherwise", fix
    )
    x, y = (_with(recipe, flip=flip).load("train").read(_first(images)) for flip in (False, True))
    expect_equal("`read` gives the same images with flip = true", y, x, fix)


def check_limit(recipe: DatasetRecipe) -> None:
    """`limit = n` keeps the first n images of each split with their labels. Skips recipes without this key."""
    if not isinstance(recipe, ImageData):
        return
    fix = "leave `limit` to ImageData.load, and return all images from source()"
    for split in ("train", "test"):
        whole = _with(recipe, limit=None).load(split)
        n = max(1, min(3, len(whole) - 1))
        few = _with(recipe, limit=n).load(split)
        promise(len(few) == min(n, len(whole)), f"limit = {n} keeps {n} images of {split}", str(len(few)), fix)
        expect_equal("the first images", few.read(torch.arange(n)), whole.read(torch.arange(n)), fix)
        if whole.labels is not None and few.labels is not None:
            expect_equal("the labels of the first images", few.labels, whole.labels[:n], fix)
        other = len(whole) == n or few.fingerprint() != whole.fingerprint()
        fix = "include in the fingerprint, by self.digest(…), which images the split contains"
        promise(other, "the fingerprint depends on `limit`", "the same fingerprint for fewer images", fix)


def check_channels(recipe: DatasetRecipe) -> None:
    """`channels = 1` gives grey images, and 3 colour images of the same size. Skips recipes without this key."""
    if not isinstance(recipe, ImageData):
        return
    shape = recipe.load("train").shape
    for channels in (1, 3):
        images = _with(recipe, channels=channels).load("train")
        wanted = (channels, *shape[1:])
        seen = str(tuple(images.shape))
        promise(tuple(images.shape) == wanted, f"shape {wanted}", seen, "do not override ImageData.load")
        x = images.read(_first(images))
        expect_shape(
            f"images with channels = {channels}", x, (len(x), *wanted), "leave the conversion to ImageData.load"
        )
        inside = bool(((x >= -1) & (x <= 1)).all())
        promise(
            inside,
            "values in [-1, 1]",
            f"{float(x.min()):g} to {float(x.max()):g}",
            "convert channels before pixels are scaled to x",
        )


def check_without(recipe: DatasetRecipe) -> None:
    """`without` removes a class from the training split alone. Skips images without classes."""
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
    promise(
        seen is not None and not bool((seen == left_out).any()), f"no {name!r} in training", "it is still there", fix
    )
    promise(
        found["train"].classes == whole["train"].classes,
        "`without` keeps the class names",
        str(found["train"].classes),
        fix,
    )
    kept, n = len(found["test"]), len(whole["test"])
    promise(kept == n, "`without` keeps the test split", f"{kept} of {n} images", fix)


# ---------------------------------------------------------------- the decoder


def check_decoder(recipe: DatasetRecipe) -> None:
    """`decoder(shape)` turns grey and colour pictures into uint8 pixels of this shape.

    For a damaged picture it raises a `DataError` with the file's name.
    """
    shape = recipe.load("train").shape
    _, height, width = shape
    sizes = [(width, height)] if width != height else [(width, height), (2 * width + 3, 2 * height + 1)]
    decode = recipe.decoder(shape)
    for mode in ("L", "RGB"):
        for width, height in sizes:
            pixels = decode(_picture(mode, width, height), f"{mode}.png")
            fix = "pass the number of channels and the size to hebm.data.decode.Decoder"
            expect_shape(f"a picture of mode {mode}, {width}×{height}", pixels, shape, fix)
            promise(
                pixels.dtype == torch.uint8, "uint8 pixels", str(pixels.dtype), "do not scale pixels in the decoder"
            )
    try:
        decode(b"no picture", "broken.png")
    except DataError as error:
        promise(
            "broken.png" in str(error), "a DataError that names the file", str(error), "name the file in the message"
        )
        return
    except Exception as error:
        seen = f"{type(error).__name__}: {error}"
    else:
        seen = "no error"
    promise(False, "DataError for a damaged file", seen, "decode with hebm.data.decode.Decoder")


def _picture(mode: str, width: int, height: int) -> bytes:
    """Return a PNG file with a pattern."""
    shape = (height, width) if mode == "L" else (height, width, 3)
    pixels = (np.arange(np.prod(shape)) % 251).astype(np.uint8).reshape(shape)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


# ---------------------------------------------------------------- processes


def check_workers(recipe: DatasetRecipe) -> None:
    """A split can be pickled for background processes, and its copy reads the same images."""
    images = recipe.load("train")
    fix = "keep no lambda, open file or lock in the images; replace a closure by a class with __call__"
    try:
        twin: Any = pickle.loads(pickle.dumps(images))
    except Exception as error:
        promise(False, "images that can be pickled (data.workers)", f"{type(error).__name__}: {error}", fix)
    expect_equal("images read in a worker", twin.read(_first(images)), images.read(_first(images)), fix)


def check_other_process(recipe: DatasetRecipe) -> None:
    """Fingerprints are the same in another process."""
    own = _fingerprints(recipe)
    fix = "use self.digest(…) of bytes in fingerprint(); no hash(), id(), set order, time or process id"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            # pickled here: a pool would move the tensors to shared memory, away from arrays that view them
            other = pool.submit(_fingerprints_of, pickle.dumps(recipe)).result()
        except Exception as error:
            promise(False, "a recipe that another process can load", f"{type(error).__name__}: {error}", fix)
    promise(own == other, "the same fingerprints in another process", "different ones", fix)


def _fingerprints_of(pickled: bytes) -> tuple[str, ...]:
    return _fingerprints(pickle.loads(pickled))


def _fingerprints(recipe: DatasetRecipe) -> tuple[str, ...]:
    return tuple(recipe.load(split).fingerprint() for split in ("train", "test"))


# ---------------------------------------------------------------- files


def _places(recipe: DatasetRecipe) -> dict[str, Path]:
    """Return the paths of files and folders in the recipe, by key."""
    found = {}
    for field in fields_of(type(recipe)):
        path, value = field.metadata.get("path", False), getattr(recipe, field.name)
        if isinstance(value, str) and (path(recipe) if callable(path) else path):
            found[field.name] = Path(value)
    return found


@contextmanager
def _copied(recipe: DatasetRecipe) -> Iterator[Any]:
    """Yield the recipe on copies of its files, in another folder and with older timestamps; None without files."""
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
    """Copies of the files in another folder have the same fingerprints. Skips recipes without a path that exists."""
    with _copied(recipe) as moved:
        if moved is not None:
            same = _fingerprints(moved) == _fingerprints(recipe)
            fix = "digest contents and paths relative to the root, not timestamps or absolute paths"
            promise(same, "the same fingerprints after the files were copied", "different ones", fix)


def check_changed_files(recipe: DatasetRecipe) -> None:
    """A fingerprint changes with the images. Skips recipes without a path that exists."""
    with _copied(recipe) as moved:
        if moved is None:
            return
        before = {split: moved.load(split).fingerprint() for split in ("train", "test")}
        changed = [_invert(path) for name in _places(moved) for path in _files(Path(getattr(moved, name)))]
        if any(changed):
            same = [split for split in before if moved.load(split).fingerprint() == before[split]]
            fix = "include pixels in the fingerprint: self.sample_digest(), or a hash of all"
            promise(not same, "another fingerprint for other pixels", f"the same fingerprint of {', '.join(same)}", fix)


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _invert(path: Path) -> bool:
    """Invert the pixels of a picture or of a uint8 array. Returns False for any other file, which stays as it is."""
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
    """Loading raises a `DataError` with the path of a missing file or folder. Skips recipes without a path."""
    for name in _places(recipe):
        with tempfile.TemporaryDirectory() as folder:
            nowhere = str(Path(folder) / "no-such-place")
            absent = _with(recipe, **{name: nowhere})
            fix = f"raise a DataError with the path and the key, data.{name}"
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
