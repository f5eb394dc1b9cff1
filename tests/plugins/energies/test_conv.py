"""The joint EBM's two-stage net: its published size, maps of any size, and what is refused.

Its values are compared with recorded ones in `tests/parity/test_two_stage_toy.py`.
"""

import pytest
import torch
from torch import nn

from hebm.errors import ConfigError
from hebm.latents import LatentLayout
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import points, seeded
from hebm_plugins.energies.conv import Conv


def layers(shape):
    """(kind, inputs, outputs) of every layer with weights."""
    with torch.device("meta"):
        net = Conv().build(LatentLayout((shape,))).nets[0]
    convs = [("conv", m.in_channels, m.out_channels) for m in net if isinstance(m, nn.Conv2d)]
    return convs + [("linear", m.in_features, m.out_features) for m in net if isinstance(m, nn.Linear)]


@pytest.mark.parametrize(("side", "n"), [(8, 1), (16, 2), (32, 3), (64, 4), (128, 5)])
def test_the_net_has_the_published_layers(side, n):
    convs = [("conv", 20, 64), *[("conv", 64, 64)] * (n - 1)]
    linears = [("linear", 1024, 200), *[("linear", 200, 200)] * (n - 1), ("linear", 200, 1)]
    assert layers((20, side, side)) == convs + linears


def test_the_published_size_for_a_map_of_sixteen():
    convs = (20 * 64 * 16 + 64) + (64 * 64 * 16 + 64)
    linears = (1024 * 200 + 200) + (200 * 200 + 200) + (200 + 1)
    energy = Conv().build(LatentLayout(((20, 16, 16),)))
    assert sum(p.numel() for p in energy.parameters()) == convs + linears == 331545


@pytest.mark.parametrize("sides", [(1, 1), (2, 2), (3, 2), (4, 4), (7, 7), (14, 14), (16, 2), (1, 8), (8, 32)])
def test_maps_of_any_size_are_scored_by_a_net_that_is_not_linear(sides):
    layout = LatentLayout(((3, *sides),))
    energy = seeded(lambda: Conv(channels=2, width=4).build(layout, logits=3))
    z = (points(4, layout.dim).view(4, 3, *sides),)
    f = energy.nets[0](z[0])
    assert f.shape == (4, 3)
    assert f.isfinite().all()
    assert sum(isinstance(m, nn.LeakyReLU) for m in energy.nets[0]) >= 1


@pytest.mark.parametrize("zero_init", [False, True])
def test_f_starts_at_zero_if_asked_to(zero_init):
    layout = LatentLayout(((2, 4, 4), (3, 8, 8)))
    latents = seeded(lambda: ReferenceBackbone(layout)).latents(points(5, layout.dim))
    energy = seeded(lambda: Conv(channels=3, width=5, zero_init=zero_init).build(layout))
    assert bool(energy(latents).any()) != zero_init
    assert not Conv().zero_init


@pytest.mark.parametrize("shape", [(16,), (4, 4)])
def test_what_is_no_map_is_refused_with_the_way_out(shape):
    with pytest.raises(ConfigError, match=r"'conv' needs .*a layer of shape .*energy\.type = \"mlp\""):
        Conv().build(LatentLayout(((2, 4, 4), shape)))


def test_levels_are_refused():
    with pytest.raises(ConfigError, match="'conv' does not depend on time"):
        Conv().build(LatentLayout(((2, 4, 4),)), levels=3)
