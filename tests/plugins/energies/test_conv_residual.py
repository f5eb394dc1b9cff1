"""The multi-stage prior's net: the size of its table, a start at r = 1, its options, and what is refused."""

import pytest
import torch

from hebm.errors import ConfigError
from hebm.latents import LatentLayout
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import perturbed, points, seeded
from hebm_plugins.energies.conv_residual import ConvResidual, DenseBlock, HalvingBlock, PlainBlock

LAYOUT = LatentLayout(((2, 4, 4), (3, 8, 8)))


@pytest.fixture
def latents():
    return seeded(lambda: ReferenceBackbone(LAYOUT)).latents(points(5, LAYOUT.dim))


def meta(recipe, shape):
    with torch.device("meta"):
        return recipe.build(LatentLayout((shape,))).nets[0]


def parameters(recipe, shape):
    return sum(p.numel() for p in meta(recipe, shape).parameters())


def conv(inputs, outputs, size):
    return inputs * outputs * size**2 + outputs


def linear(inputs, outputs):
    return inputs * outputs + outputs


HALVING = 2 * conv(128, 128, 4) + conv(128, 128, 3)
FIRST_DENSE = 2 * linear(16 * 128, 256) + linear(256, 256)


def test_the_net_has_the_size_of_the_table_for_a_map_of_sixteen():
    stage = HALVING + 8 * 2 * conv(128, 128, 3)
    dense = FIRST_DENSE + 7 * 2 * linear(256, 256)
    expected = conv(20, 128, 3) + 2 * stage + dense + linear(256, 1)
    assert parameters(ConvResidual(), (20, 16, 16)) == expected == 8126337


def test_a_block_may_have_one_convolution_as_the_table_can_be_read():
    both = [parameters(ConvResidual(convolutions=k), (20, 16, 16)) for k in (1, 2)]
    assert both[1] - both[0] == 2 * 8 * conv(128, 128, 3)


def test_each_halving_is_followed_by_its_blocks_down_to_four():
    kinds = [type(layer).__name__ for layer in meta(ConvResidual(blocks=2, dense_blocks=3), (20, 16, 16))]
    stage = ["HalvingBlock", "PlainBlock", "PlainBlock"]
    assert kinds == ["Conv2d", *stage, *stage, "Flatten", *["DenseBlock"] * 3, "SiLU", "Linear"]


def test_small_maps_are_not_halved_and_where_that_ends_is_an_option():
    halvings = lambda **options: [  # noqa: E731
        sum(isinstance(layer, HalvingBlock) for layer in meta(ConvResidual(**options), (2, side, side)))
        for side in (1, 4, 7, 8, 14)
    ]
    assert halvings() == [0, 0, 1, 1, 2]
    assert halvings(smallest=2) == [0, 1, 2, 2, 3]


@pytest.mark.parametrize("sides", [(1, 1), (3, 2), (4, 4), (7, 7), (14, 14), (16, 2), (1, 8), (5, 9)])
def test_maps_of_any_size_are_scored(sides):
    layout = LatentLayout(((3, *sides),))
    recipe = ConvResidual(channels=2, width=4, blocks=1, dense_blocks=1, zero_init=False)
    f = seeded(lambda: recipe.build(layout, logits=3)).nets[0](points(4, layout.dim).view(4, 3, *sides))
    assert f.shape == (4, 3)
    assert f.isfinite().all()


def test_a_stage_starts_at_ratio_one_and_can_leave_it(latents):
    energy = seeded(lambda: ConvResidual(channels=3, width=5, blocks=1, dense_blocks=2).build(LAYOUT))
    f = energy(latents)
    assert f.shape == (5, 2, 1)
    assert not f.any()
    assert perturbed(energy)(latents).abs().min() > 0


def test_without_zero_init_it_starts_elsewhere_but_tame():
    layout = LatentLayout(((20, 16, 16),))
    energy = seeded(lambda: ConvResidual(channels=16, zero_init=False).build(layout))
    z = points(16, layout.dim).view(16, 20, 16, 16).requires_grad_()
    f = energy.nets[0](z)
    assert 0 < f.abs().max() < 10
    assert torch.autograd.grad(f.sum(), z)[0].flatten(1).norm(dim=1).max() < 10


def zeroed(module):
    for parameter in module.parameters():
        parameter.data.zero_()
    return module


@pytest.mark.parametrize("convolutions", [1, 2])
def test_blocks_that_keep_the_shape_are_the_identity_at_zero_weights(convolutions):
    x, features = points(3, 2 * 25).view(3, 2, 5, 5), points(3, 6)
    assert torch.equal(zeroed(PlainBlock(2, convolutions))(x), x)
    assert torch.equal(zeroed(DenseBlock(6, 6))(features), features)


def test_blocks_that_change_the_shape_have_a_linear_shortcut():
    x, y = points(2, 2 * 36, name="x").view(2, 2, 6, 6), points(2, 2 * 36, name="y").view(2, 2, 6, 6)
    halving, dense = seeded(lambda: HalvingBlock(2)), seeded(lambda: DenseBlock(72, 3))
    for block, flat in ((halving, False), (dense, True)):
        zeroed(getattr(block, "smooth", None) or block.second)
        zero, a, b, both = (block(v.flatten(1) if flat else v) for v in (0 * x, x, y, x + y))
        torch.testing.assert_close(both - zero, a + b - 2 * zero)
        assert a.abs().min() > 0


@pytest.mark.parametrize("shape", [(16,), (4, 4)])
def test_what_is_no_map_is_refused_with_the_way_out(shape):
    with pytest.raises(ConfigError, match=r"'conv-residual' needs .*a layer of shape .*energy\.type = \"mlp\""):
        ConvResidual().build(LatentLayout(((2, 4, 4), shape)))


def test_levels_are_refused():
    with pytest.raises(ConfigError, match="'conv-residual' does not depend on time"):
        ConvResidual().build(LAYOUT, levels=3)


def test_a_third_convolution_is_refused():
    with pytest.raises(ConfigError, match="convolutions"):
        ConvResidual(convolutions=3)
