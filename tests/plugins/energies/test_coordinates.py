"""What a layer's net sees: z, u, or z with the two parameters of its base conditional."""

import dataclasses

import pytest
import torch

from hebm.latents import LatentLayout
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import points, seeded
from hebm_plugins.energies.coordinates import COORDINATES, seen, seen_of, seen_shapes

LAYOUTS = [LatentLayout(((3,), (4,))), LatentLayout(((2, 4, 4), (3, 2, 6)))]
layouts = pytest.mark.parametrize("layout", LAYOUTS, ids=["flat", "maps"])


def latents(layout, u=None):
    backbone = seeded(lambda: ReferenceBackbone(layout)).double()
    return backbone.latents(points(5, layout.dim, torch.float64) if u is None else u)


@layouts
def test_z_and_u_are_the_latents_own(layout):
    at = latents(layout)
    for part, z in zip(seen(at, layout, "z"), at.z, strict=True):
        assert torch.equal(part, z)
    assert torch.equal(layout.join(seen(at, layout, "u")), at.u)


@layouts
def test_the_middle_third_is_the_mean_which_is_z_where_u_is_zero(layout):
    at = latents(layout)
    for i, part in enumerate(seen(at, layout, "z-given-above")):
        u = [torch.zeros_like(one) if j == i else one for j, one in enumerate(layout.split(at.u))]
        z, mean, sigma = part.chunk(3, dim=1)
        assert torch.equal(z, at.z[i])
        assert torch.equal(sigma, at.sigma[i])
        torch.testing.assert_close(mean, latents(layout, layout.join(u)).z[i])


@layouts
@pytest.mark.parametrize("coordinate", COORDINATES)
def test_shapes_are_as_announced_and_one_layer_is_one_of_all(layout, coordinate):
    at = latents(layout)
    parts = seen(at, layout, coordinate)
    assert tuple(tuple(part.shape[1:]) for part in parts) == seen_shapes(layout, coordinate)
    for i, part in enumerate(parts):
        assert torch.equal(seen_of(at, layout, coordinate, i), part)


@layouts
@pytest.mark.parametrize("axes", [(), (1,)], ids=["scalar", "one row"])
def test_a_deviation_that_is_only_broadcastable_is_expanded(layout, axes):
    at = latents(layout)
    sigma = tuple(torch.full((*axes, *axes * len(shape)), 1.01, dtype=torch.float64) for shape in layout.shapes)
    given = dataclasses.replace(at, sigma=sigma)
    for part, z in zip(seen(given, layout, "z-given-above"), at.z, strict=True):
        assert torch.equal(part.chunk(3, dim=1)[2], torch.full_like(z, 1.01))


def test_the_layer_itself_moves_neither_its_mean_nor_its_deviation():
    layout = LAYOUTS[0]
    u = points(5, layout.dim, torch.float64).requires_grad_()
    _, mean, sigma = seen_of(latents(layout, u), layout, "z-given-above", 1).chunk(3, dim=1)
    for of_above in (mean, sigma):
        top, own = layout.split(torch.autograd.grad(of_above.sum(), u, retain_graph=True)[0])
        assert top.abs().max() > 1e-3
        assert own.abs().max() < 1e-12
