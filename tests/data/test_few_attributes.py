"""A few of the attributes of a data set, in an order of one's own."""

import pytest
import torch

from hebm.data.chosen import FewAttributes
from hebm.data.images import ArrayImages
from hebm.errors import ConfigError


@pytest.fixture
def images():
    labels = torch.tensor([[0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 0]])
    return ArrayImages(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), labels, attributes=("Male", "Blond_Hair", "Smiling"))


def test_columns_follow_the_names(images):
    few = FewAttributes(images, ("smiling", "male"))
    assert few.attributes == ("Smiling", "Male")
    assert torch.equal(few.labels, images.labels[:, [2, 0]])
    assert torch.equal(few.read(torch.tensor([1])), images.read(torch.tensor([1])))
    assert len(few) == 4


def test_the_fingerprint_sees_which_and_in_what_order(images):
    prints = {FewAttributes(images, names).fingerprint() for names in (("Male",), ("Smiling",), ("Male", "Smiling"))}
    prints |= {FewAttributes(images, ("Smiling", "Male")).fingerprint(), images.fingerprint()}
    assert len(prints) == 5


@pytest.mark.parametrize("names", [("Hat",), ("Male", "male"), ("-Male",)])
def test_unknown_repeated_and_negated_names_are_refused(images, names):
    with pytest.raises(ConfigError, match="attributes"):
        FewAttributes(images, names)


def test_images_without_attributes_are_refused():
    with pytest.raises(ConfigError, match="no attributes"):
        FewAttributes(ArrayImages(torch.zeros(4, 1, 2, 2, dtype=torch.uint8)), ("Male",))
