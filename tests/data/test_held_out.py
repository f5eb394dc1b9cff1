"""`data.validation`: a fraction of the training split that is not trained on."""

import pytest
import torch

from hebm.config.recipes import recipe
from hebm.data.dataset_recipe import ImageData
from hebm.data.images import ArrayImages
from hebm.errors import ConfigError, DataError


@recipe
class Numbered(ImageData):
    """Forty images of three classes; image i has pixels of value i."""

    def source(self, split):
        pixels = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).expand(40, 1, 4, 4)
        return ArrayImages(pixels.contiguous(), torch.arange(40) % 3, ("cat", "dog", "cow"))


def numbers(images):
    shown = (images.read(torch.arange(len(images)))[:, 0, 0, 0] + 1) * 127.5
    return shown.round().int().tolist()


def test_both_parts_together_are_the_split_and_labels_go_along():
    splits = Numbered(validation=0.25).splits()
    train, held = numbers(splits["train"]), numbers(splits["validation"])
    assert (len(train), len(held)) == (30, 10)
    assert sorted(train + held) == list(range(40))
    assert held == sorted(held)
    assert held != list(range(30, 40))
    for part in ("train", "validation"):
        assert splits[part].labels.tolist() == [i % 3 for i in numbers(splits[part])]
        assert splits[part].classes == ("cat", "dog", "cow")
    assert numbers(splits["test"]) == list(range(40))


def test_a_larger_fraction_holds_out_the_images_of_a_smaller_one():
    small, large = (set(numbers(Numbered(validation=f).splits()["validation"])) for f in (0.1, 0.5))
    assert small < large


def test_without_a_fraction_the_splits_are_what_load_returns():
    splits = Numbered().splits()
    assert list(splits) == ["train", "test"]
    assert splits["train"].fingerprint() == Numbered().load("train").fingerprint()


def test_the_fingerprint_of_the_training_split_tells_the_fraction():
    found = {Numbered(validation=f).splits()["train"].fingerprint() for f in (0.0, 0.1, 0.2)}
    assert len(found) == 3


def test_the_fraction_is_taken_of_the_images_that_limit_leaves():
    splits = Numbered(validation=0.25, limit=8).splits()
    assert sorted(numbers(splits["train"]) + numbers(splits["validation"])) == list(range(8))


@pytest.mark.parametrize(("fraction", "limit"), [(0.01, None), (0.9, 2)])
def test_a_fraction_that_leaves_a_part_empty_is_an_error(fraction, limit):
    with pytest.raises(DataError, match=r"data\.validation = 0\..* holds out"):
        Numbered(validation=fraction, limit=limit).splits()


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_the_fraction_has_bounds(fraction):
    with pytest.raises(ConfigError, match="validation"):
        Numbered(validation=fraction)
