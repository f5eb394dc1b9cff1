"""Checks of a data set in background processes and of its files. Every check is called with a recipe."""

from __future__ import annotations

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

import numpy as np
from PIL import Image

from hebm.config.recipes import fields_of
from hebm.data.dataset_recipe import DatasetRecipe
from hebm.errors import DataError, HebmError
from hebm.testing.dataset_options import changed, first_indices
from hebm.testing.promises import expect, expect_equal

MOST_BYTES = 2**26
"""Checks that copy files skip files of more than this many bytes in total."""
MOVED = 7.0 * 24 * 3600
"""Age added to the timestamps of copied files, in seconds."""


# ---------------------------------------------------------------- processes


def check_workers(recipe: DatasetRecipe) -> None:
    """Check that a split can be pickled for background processes and that its copy reads the same images."""
    images = recipe.load("train")
    fix = "store no lambda, open file or lock in the images; replace a closure by a class with __call__"
    try:
        twin: Any = pickle.loads(pickle.dumps(images))
    except Exception as error:
        expect(False, "images that can be pickled for data.workers", f"{type(error).__name__}: {error}", fix)
    expect_equal(
        "images read in a background process are the same",
        twin.read(first_indices(images)),
        images.read(first_indices(images)),
        fix,
    )


def check_other_process(recipe: DatasetRecipe) -> None:
    """Check that fingerprints are the same in another process."""
    own = _fingerprints(recipe)
    fix = "in fingerprint(), use self.digest(…) of bytes, but no hash(), id(), order of a set, time or process id"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            # pickled here, because a pool moves tensors to shared memory, away from arrays that view them
            other = pool.submit(_fingerprints_of, pickle.dumps(recipe)).result()
        except Exception as error:
            expect(False, "a recipe that another process can load", f"{type(error).__name__}: {error}", fix)
    expect(own == other, "equal fingerprints in another process", "different ones", fix)


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
    """Yield the recipe with copies of its files in another folder, with older timestamps; None without files."""
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
        yield changed(recipe, **{name: str(path) for name, path in moved.items()})


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def check_moved_files(recipe: DatasetRecipe) -> None:
    """Check that copies of the files in another folder have the same fingerprints.

    Passes if the recipe has no path that exists.
    """
    with _copied(recipe) as moved:
        if moved is not None:
            same = _fingerprints(moved) == _fingerprints(recipe)
            fix = "digest contents and paths relative to the root, but not timestamps or absolute paths"
            expect(same, "equal fingerprints of copied files", "different ones", fix)


def check_changed_files(recipe: DatasetRecipe) -> None:
    """Check that a fingerprint changes with the images. Passes if the recipe has no path that exists."""
    with _copied(recipe) as moved:
        if moved is None:
            return
        before = {split: moved.load(split).fingerprint() for split in ("train", "test")}
        changed = [_invert(path) for name in _places(moved) for path in _files(Path(getattr(moved, name)))]
        if any(changed):
            same = [split for split in before if moved.load(split).fingerprint() == before[split]]
            fix = "include pixels in the fingerprint, by self.sample_digest() or a hash of all pixels"
            expect(
                not same,
                "different fingerprints for different pixels",
                f"equal fingerprints of the split {', '.join(same)}",
                fix,
            )


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _invert(path: Path) -> bool:
    """Invert the pixels of an image file or a uint8 array. Return False for any other file, and leave it unchanged."""
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
    """Check that loading raises a `DataError` with the path of a missing file or folder.

    Passes if the recipe has no path.
    """
    for name in _places(recipe):
        with tempfile.TemporaryDirectory() as folder:
            nowhere = str(Path(folder) / "no-such-place")
            absent = changed(recipe, **{name: nowhere})
            fix = f"raise a DataError that names the path and the key data.{name}"
            try:
                for split in ("train", "test"):
                    absent.load(split)
            except DataError as error:
                expect(nowhere in str(error), f"a DataError that names {nowhere}", str(error), fix)
                continue
            except HebmError as error:
                expect(False, f"a DataError for a missing {name}", f"{type(error).__name__}: {error}", fix)
            except Exception as error:
                expect(False, f"a DataError for a missing {name}", f"{type(error).__name__}: {error}", fix)
            expect(False, f"a DataError for a missing {name}", "no error", fix)
