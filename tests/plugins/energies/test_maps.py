"""Maps and how often they are halved."""

import pytest
import torch

from hebm.errors import ConfigError
from hebm.latents import LatentLayout
from hebm_plugins.energies.maps import cells, expect_maps, halvings_to


@pytest.mark.parametrize(
    ("sides", "n"),
    [
        *[((1, 1), 0), ((2, 3), 0), ((4, 4), 0), ((5, 5), 1), ((7, 7), 1), ((8, 8), 1), ((9, 9), 1), ((14, 14), 2)],
        *[((16, 16), 2), ((19, 19), 2), ((20, 20), 3), ((128, 128), 5), ((8, 16), 2), ((16, 2), 1), ((1, 8), 0)],
    ],
)
def test_maps_are_halved_until_both_sides_are_small_or_one_would_vanish(sides, n):
    assert halvings_to((3, *sides), 4) == n


@pytest.mark.parametrize("smallest", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("side", range(1, 40))
def test_the_last_side_is_the_first_that_is_small_enough(side, smallest):
    n = halvings_to((3, side, side), smallest)
    assert side >> n <= smallest
    assert n == 0 or side >> (n - 1) > smallest


@pytest.mark.parametrize("sides", [(7, 7), (16, 8), (5, 9), (6, 10)])
def test_cells_count_what_the_convolutions_leave(sides):
    x, conv = torch.zeros(1, 1, *sides), torch.nn.Conv2d(1, 1, 4, 2, 1)
    for n in range(3):
        assert cells((1, *sides), n) == x[0, 0].numel()
        x = conv(x) if n < 2 else x


@pytest.mark.parametrize("shape", [(16,), (4, 4), (2, 1, 8)])
def test_what_is_no_map_or_too_small_is_refused_with_the_way_out(shape):
    with pytest.raises(ConfigError, match=r"'some'.*at least 2.*a layer of shape .*energy\.type = \"other\""):
        expect_maps(LatentLayout(((2, 4, 4), shape)), "some", "other", side=2)


def test_maps_pass():
    expect_maps(LatentLayout(((2, 1, 1), (3, 4, 5))), "some", "other")
