import pytest
import torch

from hebm.config.recipes import option, recipe
from hebm.data.dataset_recipe import ImageData, spec
from hebm.data.images import ArrayImages
from hebm.errors import ConfigError, DataError
from hebm.interfaces import ImageSpec


@recipe
class Given(ImageData):
    """Whatever the test asks for."""

    shape: tuple[int, int, int, int] = option((10, 1, 4, 4), doc="N, C, H, W")
    value: float = option(0.5, doc="of every pixel")

    def source(self, split):
        n = self.shape[0] if split == "train" else 2
        return ArrayImages(torch.full((n, *self.shape[1:]), self.value), torch.zeros(n), ("only",))


def test_limit_and_channels_apply_to_every_split():
    data = Given(limit=3, channels=3)
    train, test = data.load("train"), data.load("test")
    assert (len(train), train.shape, len(test)) == (3, (3, 4, 4), 2)


def test_an_unknown_split_is_refused():
    with pytest.raises(DataError, match="'train' or 'test'"):
        Given().load("valid")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": (0, 1, 4, 4)}, "no images; check data.root"),
        ({"shape": (2, 4, 4, 4)}, "4 channels"),
        ({"value": 1.5}, "from 1.5 to 1.5, allowed is"),
    ],
)
def test_images_that_no_model_can_take_are_refused(fields, message):
    with pytest.raises(DataError, match=message):
        Given(**fields).load("train")


def test_values_that_are_no_numbers_are_refused():
    class Broken(Given):
        def source(self, split):
            return ArrayImages(torch.full((3, 1, 2, 2), float("nan")))

    with pytest.raises(DataError, match="nan"):
        Broken().load("train")


@pytest.mark.parametrize(
    "fields", [{"batch_size": 0}, {"binarize": "yes"}, {"channels": 2}, {"limit": 0}, {"workers": -1}]
)
def test_options_out_of_range_are_refused(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        Given(**fields)


@pytest.mark.parametrize(("binarize", "binary"), [("off", False), ("target", True), ("both", True)])
def test_the_spec_says_what_a_backbone_needs(binarize, binary):
    data = Given(binarize=binarize)
    assert spec(data.load("train"), data) == ImageSpec(1, 4, 4, ("only",), binary)


def test_the_spec_names_attributes():
    class Faces(Given):
        def source(self, split):
            return ArrayImages(torch.zeros(3, 1, 4, 4), torch.ones(3, 2), attributes=("male", "smiling"))

    data = Faces(limit=2)
    assert spec(data.load("train"), data) == ImageSpec(1, 4, 4, attributes=("male", "smiling"))
    assert data.load("train").labels.shape == (2, 2)
