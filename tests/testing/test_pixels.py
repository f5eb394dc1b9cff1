"""How the kit adds up p(x|z) over a pixel's values."""

import math

import pytest
import torch

from hebm.likelihoods import BernoulliPixels, GaussianPixels
from hebm.testing.pixels import BYTES, INTERVAL, LEVELS, LINE, TWO, Pixels, _independent, _shared, _tables

SHAPE = (1, 4, 4)


def pixels(distribution, binary=False):
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(16, dtype=torch.float64, generator=generator) - 1
    return Pixels(distribution, x.sign() if binary else x, SHAPE, binary)


def gaussian(std=0.3):
    mean = torch.linspace(-0.5, 0.5, 16, dtype=torch.float64).view(1, *SHAPE).expand(LEVELS, -1, -1, -1)
    return GaussianPixels(mean, std)


class Coupled(GaussianPixels):
    """Every pixel depends on the one before it."""

    def log_prob(self, value):
        flat = value.flatten(1)
        return super().log_prob(value) + (flat[:, 1:] * flat[:, :-1]).sum(1)


def total(subject, measure):
    here = subject.log_prob(subject.x.unsqueeze(0))
    return float(here + _tables(subject, range(16))[measure].log_sum.sum()) / 16


@pytest.mark.parametrize("std", [0.003, 0.3, 3.0])
def test_a_density_is_integrated_over_the_real_line(std):
    assert total(pixels(gaussian(std)), LINE) == pytest.approx(0, abs=1e-3)


def test_the_levels_of_a_density_add_up_to_their_number_an_interval():
    subject = pixels(gaussian(0.1))
    assert total(subject, BYTES) == pytest.approx(math.log(255 / 2), abs=1e-3)
    assert total(subject, INTERVAL) == pytest.approx(0, abs=1e-3)


def test_binary_pixels_have_two_values():
    logits = torch.linspace(-2, 2, 16, dtype=torch.float64).view(1, *SHAPE).expand(LEVELS, -1, -1, -1)
    subject = pixels(BernoulliPixels(logits), binary=True)
    assert list(_tables(subject, range(16))) == [TWO]
    assert total(subject, TWO) == pytest.approx(0, abs=1e-9)


def test_pixels_that_depend_on_each_other_are_told():
    generic = gaussian()
    assert _independent(pixels(generic))
    assert not _independent(pixels(Coupled(generic.mean, 0.3)))


def test_levels_that_share_a_value_are_counted_where_they_are_a_power_of_two():
    levels = torch.arange(LEVELS, dtype=torch.float64)
    assert float(_shared(levels.div(8, rounding_mode="floor"))) == pytest.approx(math.log(8))
    assert float(_shared(levels)) == 0
    assert float(_shared(levels.div(100, rounding_mode="floor"))) == 0
