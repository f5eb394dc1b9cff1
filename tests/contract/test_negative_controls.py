"""Wrong data sets and recipes, each caught by the check that names its promise."""

import random

import attrs
import pytest
import torch
from catching import own_cases
from sound_components import Root, expect_failing

from hebm.config.recipes import option, recipe
from hebm.data.dataset_recipe import DatasetRecipe
from hebm.data.images import ArrayImages
from hebm.interfaces import PriorRecipe
from hebm.testing import check_all

# ---------------------------------------------------------------- broken data sets


@attrs.frozen
class Data(DatasetRecipe):
    """Sound, but for what `fault` says."""

    fault: str
    batch_size: int = 4

    def load(self, split):
        if split not in ("train", "test") and self.fault != "any split":
            from hebm.errors import DataError

            raise DataError("no such split")
        generator = torch.Generator().manual_seed(0 if split == "train" or self.fault == "same splits" else 1)
        pixels = torch.randint(0, 256, (8, 1, 8, 8), dtype=torch.uint8, generator=generator)
        labels = torch.arange(8) % (3 if self.fault == "labels" else 2)
        if self.fault == "range":
            return ArrayImages(pixels.float() / 255 * 2, labels, ("a", "b"))
        if self.fault == "global":
            torch.randn(1)
        images = ArrayImages(pixels, None if self.fault == "labels" else labels, ("a", "b"))
        if self.fault == "labels":
            images.labels = labels
        if self.fault == "attributes":
            images = ArrayImages(pixels, torch.stack([labels, labels], dim=1), attributes=("x", "y"))
            images.labels = 2 * images.labels
        if self.fault == "augments":
            calls = []
            read = images.read
            images.read = lambda indices: (calls.append(1), read(indices).roll(len(calls), -1))[1]
        if self.fault == "fingerprint":
            images.fingerprint = lambda: f"{random.getrandbits(256):064x}"
        return images


BROKEN_DATA = [
    ("range", "range"),
    ("any split", "splits"),
    ("labels", "labels"),
    ("attributes", "labels"),
    ("augments", "random-access"),
    ("fingerprint", "fingerprint"),
    ("same splits", "fingerprint"),
    ("global", "no-global-rng"),
]

# ---------------------------------------------------------------- broken recipes


@attrs.define
class Thawed(PriorRecipe):
    """A recipe in no order."""

    width: int = 3

    def build(self, backbone):
        return Root(backbone.layout.dim)


@recipe
class Bare(PriorRecipe):
    width: int = attrs.field(default=3)

    def build(self, backbone):
        return Root(backbone.layout.dim)


@recipe
class NeverEqual(PriorRecipe):
    """A recipe that is compared by identity."""

    width: int = option(3, doc="of nothing")

    def build(self, backbone):
        return Root(backbone.layout.dim)

    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)


BROKEN_RECIPES = [
    (Thawed, "recipe-class"),
    (Thawed, "frozen"),
    (Bare, "documented"),
    (Bare, "round-trip"),
    (NeverEqual, "value"),
]

CONTROLS = [
    *((Data(fault), fault, name) for fault, name in BROKEN_DATA),
    *((kind(), kind.__name__, name) for kind, name in BROKEN_RECIPES),
]


@pytest.mark.parametrize(("broken", "name"), [pytest.param(b, n, id=f"{label}-{n}") for b, label, n in CONTROLS])
def test_the_named_check_catches(broken, name):
    expect_failing(broken, name)


def test_a_sound_data_set_passes():
    check_all(own_cases(Data("none")))
