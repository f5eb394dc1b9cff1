"""Convolutional energies: the published sizes, maps of any size, and what is refused."""

import pytest
import torch

from hebm.errors import ConfigError
from hebm.latents import LatentLayout
from hebm.testing.subjects import points, seeded
from hebm_plugins.energies.conv_time import ConvTime
from hebm_plugins.energies.conv_time_nets import halvings


def parameters(recipe, shape):
    with torch.device("meta"):
        return sum(p.numel() for p in recipe.build(LatentLayout((shape,))).parameters())


def test_the_cifar10_net_has_the_published_sizes():
    assert parameters(ConvTime(), (20, 16, 16)) == 2116624
    assert parameters(ConvTime(), (20, 8, 8)) == 1428496


def test_the_celeba_net_has_the_published_sizes():
    sizes = [parameters(ConvTime(net="plain"), (20, side, side)) for side in (8, 16, 32, 64, 128)]
    assert (round(sizes[0], -4), round(sizes[-1], -4)) == (1790000, 2050000)
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(("side", "residual", "plain"), [(8, 2, 1), (16, 3, 2), (32, 4, 3), (64, 5, 4), (128, 6, 5)])
def test_maps_are_halved_as_often_as_published(side, residual, plain):
    assert halvings((20, side, side), 2) == residual
    assert halvings((20, side, side), 4) == plain


@pytest.mark.parametrize("net", ["residual", "plain"])
@pytest.mark.parametrize("sides", [(2, 2), (3, 2), (4, 4), (7, 7), (14, 14), (16, 2), (8, 32), (5, 9)])
def test_maps_of_any_size_from_two_on_are_scored(net, sides):
    layout = LatentLayout(((3, *sides),))
    energy = seeded(lambda: ConvTime(net=net, channels=1).build(layout, logits=3)).eval()
    z = (points(4, layout.dim).view(4, 3, *sides),)
    net = energy.nets[0]
    f = net(z[0], torch.ones(1, 128))
    assert f.shape == (4, 3)
    assert f.isfinite().all()


@pytest.mark.parametrize("shape", [(16,), (3, 1, 8), (4, 4)])
def test_what_is_no_map_is_refused_with_the_way_out(shape):
    with pytest.raises(ConfigError, match=r"a layer of shape .*mlp-time"):
        ConvTime().build(LatentLayout(((2, 4, 4), shape)))


def test_a_new_net_is_tame_before_any_training():
    layout = LatentLayout(((20, 8, 8),))
    for seed in range(4):
        energy = seeded(lambda: ConvTime(channels=16).build(layout), seed).eval()
        z = points(32, layout.dim).view(32, 20, 8, 8).requires_grad_()
        f = energy.nets[0](z, torch.ones(1, 128))
        (grad,) = torch.autograd.grad(f.sum(), z)
        assert f.abs().max() < 30
        assert grad.flatten(1).norm(dim=1).max() < 30


def test_the_default_width_is_the_published_one_of_each_net():
    with torch.device("meta"):
        built = {net: ConvTime(net=net).build(LatentLayout(((20, 8, 8),))).nets[0] for net in ("residual", "plain")}
    assert built["residual"].blocks[0].halve.out_channels == 128
    assert built["plain"].convs[0].out_channels == 64
