"""The kit can fail for data sets: each broken one is caught by the check that names its promise, and by no other."""

import os
import threading
from pathlib import Path

import attrs
import numpy as np
import pytest
import torch
from catching import expect_caught, own_cases
from PIL import Image

from hebm.config.recipes import option, recipe
from hebm.data.dataset_recipe import ImageData
from hebm.data.images import ArrayImages, LazyImages
from hebm.errors import DataError
from hebm.testing import ConformanceError, dataset_files, dataset_options

OPTIONS = {dataset_options.__name__, dataset_files.__name__}
SLOW = "other-process"
"""This check starts a process, which takes seconds: run for its own control, and for the sound original."""


class Reads:
    """Position → pixels of a file; a class, so that it can travel to workers."""

    def __init__(self, paths):
        self.paths = paths

    def __call__(self, i):
        with Image.open(self.paths[i]) as picture:
            picture.load()
            return picture


@recipe
class Folder(ImageData):
    """PNG files in root/train and root/test, of two classes in turn."""

    root: str = option(doc="the folder", path=True)
    batch_size: int = option(3, doc="images per training step")

    def source(self, split):
        paths = self.paths(split)
        names = [path.name for path in paths]
        return LazyImages(len(paths), Reads(paths), torch.arange(len(paths)) % 2, ("a", "b"), names)

    def paths(self, split):
        folder = Path(self.root) / split
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; set data.root")
        return sorted(folder.glob("*.png"))


def sound(data, split, **fields):
    """What the sound data set loads, with some keys replaced."""
    return Folder(**{**attrs.asdict(data, recurse=False), **fields}).load(split)


@recipe
class Changes(Folder):
    """Sound, but for what a method changes of the images that are returned."""

    def load(self, split):
        images = super().load(split)
        self.change(images, split)
        return images


@recipe
class SmallBatches(Folder):
    """A data set that breaks one promise of the interface."""

    batch_size: int = option(0, doc="images per training step")


@recipe
class FlipsInRead(Changes):
    """A data set that breaks one promise of the interface."""

    def change(self, images, split):
        if self.flip:
            read = images.read
            images.read = lambda index: read(index).flip(3)


@recipe
class NeverFlips(Folder):
    """A data set that breaks one promise of the interface."""

    def __attrs_post_init__(self):
        object.__setattr__(self, "flip", False)


@recipe
class IgnoresTheLimit(Folder):
    """A data set that breaks one promise of the interface."""

    def load(self, split):
        return sound(self, split, limit=None)


@recipe
class IgnoresChannels(Folder):
    """A data set that breaks one promise of the interface."""

    def load(self, split):
        return sound(self, split, channels=None)


@recipe
class KeepsTheClass(Folder):
    """A data set that breaks one promise of the interface."""

    def load(self, split):
        return sound(self, split, without=())


@recipe
class LeavesItOutOfTheTest(Folder):
    """A data set that breaks one promise of the interface."""

    def load(self, split):
        images = sound(self, split)
        if not self.without or split == "train":
            return images
        kept = torch.arange(len(images))[images.labels != images.classes.index(self.without[0])]
        return ArrayImages(images.read(kept), images.labels[kept], images.classes)


@recipe
class OwnDecoder(Folder):
    """A data set that breaks one promise of the interface."""

    def decoder(self, shape):
        def decode(data, name):
            return torch.zeros(3, 5, 5, dtype=torch.uint8)

        return decode


@recipe
class CrashingDecoder(Folder):
    """A data set that breaks one promise of the interface."""

    def decoder(self, shape):
        decode = super().decoder(shape)

        def careless(data, name):
            if not data.startswith(b"\x89PNG"):
                raise SyntaxError("not a PNG")
            return decode(data, name)

        return careless


@recipe
class HoldsALock(Changes):
    """A data set that breaks one promise of the interface."""

    def change(self, images, split):
        images.lock = threading.Lock()


class Salted:
    """A fingerprint with something added."""

    def __init__(self, images, salt, pixels=True):
        self.images, self.salt, self.pixels = images, salt.encode(), pixels

    def __call__(self):
        return self.images.digest(self.salt, self.images.sample_digest() if self.pixels else b"")


@recipe
class OfThisProcess(Changes):
    """A data set that breaks one promise of the interface."""

    def change(self, images, split):
        images.fingerprint = Salted(images, str(os.getpid()))


@recipe
class OfItsPlace(Changes):
    """A data set that breaks one promise of the interface."""

    def change(self, images, split):
        images.fingerprint = Salted(images, str(Path(self.root).resolve()))


@recipe
class OfItsTimes(Changes):
    """A data set that breaks one promise of the interface."""

    def change(self, images, split):
        images.fingerprint = Salted(images, str(Path(self.root, "train", "train-0.png").stat().st_mtime))


@recipe
class OfItsNames(Changes):
    """A data set that breaks one promise of the interface."""

    def change(self, images, split):
        images.fingerprint = Salted(images, split, pixels=False)


@recipe
class Careless(Folder):
    """A data set that breaks one promise of the interface."""

    def paths(self, split):
        return sorted((Path(self.root) / split).iterdir())


@recipe
class Silent(Folder):
    """A data set that breaks one promise of the interface."""

    def paths(self, split):
        if not Path(self.root).is_dir():
            raise DataError("the images are missing")
        return super().paths(split)


CONTROLS = [
    (SmallBatches, "batches", ()),
    (FlipsInRead, "batches", ()),
    (NeverFlips, "batches", ()),
    (IgnoresTheLimit, "limit", ()),
    (IgnoresChannels, "channels", ()),
    (KeepsTheClass, "without", ()),
    (LeavesItOutOfTheTest, "without", ()),
    (OwnDecoder, "decoder", ()),
    (CrashingDecoder, "decoder", ()),
    (HoldsALock, "workers", ()),
    (OfItsPlace, "moved-files", ()),
    (OfItsTimes, "moved-files", ()),
    (OfItsNames, "changed-files", ()),
    (Careless, "missing-files", ()),
    (Silent, "missing-files", ()),
]


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for i in range(6):
            pixels = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / f"{split}-{i}.png")
    return str(tmp_path)


@pytest.mark.parametrize(("kind", "name", "also"), CONTROLS, ids=[f"{c[0].__name__}-{c[1]}" for c in CONTROLS])
def test_the_named_check_alone_catches(kind, name, also, folder):
    expect_caught(kind(root=folder), name, also, leave_out=(SLOW,))


def test_a_fingerprint_of_the_process_is_caught(folder):
    (case,) = [case for case in own_cases(OfThisProcess(root=folder)) if case.name == SLOW]
    with pytest.raises(ConformanceError, match="equal fingerprints in another process"):
        case()


def test_the_sound_original_passes(folder):
    for case in own_cases(Folder(root=folder)):
        case()


def test_every_check_of_options_and_files_has_a_control(folder):
    controlled = {SLOW, *(name for _, name, _ in CONTROLS)}
    assert controlled == {case.name for case in own_cases(Folder(root=folder)) if case.check.__module__ in OPTIONS}
