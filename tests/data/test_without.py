"""`data.without`: classes left out of training and kept for the test."""

import pytest
import torch

from hebm.config.recipes import option, recipe
from hebm.data.chosen import left_out, of_classes
from hebm.data.dataset_recipe import ImageData
from hebm.data.images import ArrayImages
from hebm.errors import ConfigError, DataError


@recipe
class Animals(ImageData):
    """Twelve images of three classes in turn."""

    labelled: bool = option(True, doc="whether they have labels")

    def source(self, split):
        pixels = torch.arange(12, dtype=torch.uint8).view(12, 1, 1, 1).expand(12, 1, 4, 4)
        labels = torch.arange(12) % 3 if self.labelled else None
        return ArrayImages(pixels.contiguous(), labels, ("cat", "dog", "cow") if self.labelled else ())


def test_the_training_split_lacks_the_class_and_the_test_split_has_it():
    data = Animals(without=("Dog",))
    train, test = data.load("train"), data.load("test")
    assert train.labels.tolist() == [0, 2] * 4
    assert test.labels.tolist() == [0, 1, 2] * 4
    assert train.classes == test.classes == ("cat", "dog", "cow")
    shown = (train.read(torch.arange(8))[:, 0, 0, 0] + 1) * 127.5
    assert shown.round().int().tolist() == [0, 2, 3, 5, 6, 8, 9, 11]


def test_a_number_stands_for_a_class_and_the_limit_counts_what_is_left():
    train = Animals(without=("0", "2"), limit=3).load("train")
    assert train.labels.tolist() == [1, 1, 1]


def test_the_fingerprint_tells_what_was_left_out():
    prints = {Animals(without=w).load("train").fingerprint() for w in ((), ("cat",), ("dog",))}
    assert len(prints) == 3
    assert Animals(without=("cat",)).load("test").fingerprint() == Animals().load("test").fingerprint()


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_unknown_class_is_refused_for_either_split(split):
    with pytest.raises(ConfigError, match=r"data\.without: .*'dgo'.*did you mean 'dog'"):
        Animals(without=("dgo",)).load(split)


def test_images_without_labels_or_without_any_other_class_are_refused():
    with pytest.raises(ConfigError, match="have no labels"):
        Animals(without=("cat",), labelled=False).load("train")
    with pytest.raises(DataError, match="no image is left without the classes cat, dog, cow"):
        Animals(without=("cat", "dog", "cow")).load("train")


def test_both_sides_can_be_had():
    images = Animals().load("test")
    classes = left_out(("cow", "cat"), images)
    assert classes == (0, 2)
    assert set(of_classes(images, classes, True).labels.tolist()) == {0, 2}
    assert set(of_classes(images, classes, False).labels.tolist()) == {1}
