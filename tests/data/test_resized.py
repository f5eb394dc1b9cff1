import pytest
import torch

from hebm.data.images import ArrayImages
from hebm.data.resized import Resized, UpsideDown
from hebm.errors import DataError

GENERATOR = torch.Generator().manual_seed(0)
COLOUR = ArrayImages(torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=GENERATOR), torch.arange(4))
ALL = torch.arange(4)


def test_channels_and_size_become_the_models():
    fitted = Resized(COLOUR, (1, 8, 8), "svhn", "ood.data")
    x = fitted.read(ALL)
    assert (x.shape, fitted.shape, len(fitted), fitted.resized) == ((4, 1, 8, 8), (1, 8, 8), 4, True)
    assert float(x.abs().max()) <= 1
    luma = (COLOUR.read(ALL) * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1).mean()
    assert float(x.mean()) == pytest.approx(float(luma), abs=0.03)


def test_images_of_the_same_shape_are_untouched():
    fitted = Resized(COLOUR, (3, 16, 16), "svhn", "ood.data")
    assert torch.equal(fitted.read(ALL), COLOUR.read(ALL))
    assert not fitted.resized


def test_other_proportions_are_refused_with_both_sizes():
    with pytest.raises(DataError, match=r"svhn: its images are 16×16 pixels, the model's 8×4; set ood\.data\.size or"):
        Resized(COLOUR, (3, 4, 8), "svhn", "ood.data")


def test_upside_down_is_the_same_twice_over_and_has_another_fingerprint():
    once = UpsideDown(COLOUR)
    assert torch.equal(once.read(ALL)[:, :, 0], COLOUR.read(ALL)[:, :, -1])
    assert torch.equal(UpsideDown(once).read(ALL), COLOUR.read(ALL))
    assert once.fingerprint() != COLOUR.fingerprint()
