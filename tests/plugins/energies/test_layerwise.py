"""One net per layer: each sees its own layer, and is evaluated alone where it is asked for alone."""

import dataclasses

import pytest
import torch

from hebm.latents import LatentLayout
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import points, seeded
from hebm_plugins.energies.conv import Conv
from hebm_plugins.energies.conv_residual import ConvResidual
from hebm_plugins.energies.conv_time import ConvTime
from hebm_plugins.energies.mlp import MLP
from hebm_plugins.energies.mlp_time import MLPTime

LAYOUT = LatentLayout(((2, 4, 4), (3, 8, 8), (1, 5, 7)))
SMALL = {"width": 6, "zero_init": False}
KINDS = {
    "mlp": lambda **options: MLP(**SMALL, **options),
    "conv": lambda **options: Conv(channels=3, **SMALL, **options),
    "conv-residual": lambda **options: ConvResidual(channels=3, blocks=1, dense_blocks=2, **SMALL, **options),
    "mlp-time": lambda **options: MLPTime(**SMALL, **options),
    "conv-time": lambda **options: ConvTime(channels=3, **options),
}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@pytest.fixture
def latents():
    return seeded(lambda: ReferenceBackbone(LAYOUT)).double().latents(points(5, LAYOUT.dim, torch.float64))


def built(recipe):
    return seeded(lambda: recipe.build(LAYOUT, logits=2)).double().eval()


def only(parts, i, change):
    return tuple(change(part) if j == i else part for j, part in enumerate(parts))


@kinds
def test_each_net_sees_its_own_z_alone(kind, latents):
    energy = built(kind())
    f = energy(latents)
    for i in range(len(LAYOUT)):
        moved = dataclasses.replace(latents, z=only(latents.z, i, lambda z: z + 1), u=latents.u + 1)
        same = (energy(moved) == f).all(0).all(1)
        assert same.tolist() == [j != i for j in range(len(LAYOUT))]


@kinds
def test_given_above_a_net_sees_upper_layers_through_its_mean_and_deviation_alone(kind, latents):
    energy = built(kind(coordinate="z-given-above"))
    f = energy(latents)[:, 1]
    above = dataclasses.replace(latents, z=only(latents.z, 0, lambda z: z + 1))
    assert torch.equal(energy(above)[:, 1], f)
    u = LAYOUT.join(only(LAYOUT.split(latents.u), 1, lambda u: u + 1))
    other_mean = dataclasses.replace(latents, u=u)
    other_deviation = dataclasses.replace(latents, sigma=only(latents.sigma, 1, lambda sigma: 2 * sigma), u=0 * u)
    assert (energy(other_mean)[:, 1] != f).all()
    assert (energy(other_deviation)[:, 1] != energy(dataclasses.replace(latents, u=0 * u))[:, 1]).all()


@kinds
@pytest.mark.parametrize("coordinate", ["z", "u", "z-given-above"])
def test_one_layer_is_scored_by_its_net_alone(kind, coordinate, latents):
    energy = built(kind(coordinate=coordinate))
    f, calls = energy(latents), []
    for i, net in enumerate(energy.nets):
        net.register_forward_hook(lambda *_, i=i: calls.append(i))
    for i in range(len(LAYOUT)):
        torch.testing.assert_close(energy.of_layer(latents, i), f[:, i])
    assert calls == [0, 1, 2]


@kinds
def test_the_coordinate_decides_what_is_seen(kind, latents):
    in_u, in_z = built(kind(coordinate="u")), built(kind())
    same = dataclasses.replace(latents, z=LAYOUT.split(latents.u))
    assert torch.equal(in_u(latents), in_z(same))
    assert not torch.equal(in_u(latents), in_z(latents))
