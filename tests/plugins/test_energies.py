"""MLP energies: the published nets, one per layer or one over all, zero at the start."""

import pytest
import torch

from hebm.errors import ConfigError
from hebm.latents import LatentLayout
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import points, seeded
from hebm_plugins.energies.mlp import MLP, MLPConcat

LAYOUT = LatentLayout(((3,), (2, 2, 2)))
PUBLISHED = MLP(width=(100, 200), depth=(2, 3), activation="leaky-relu", zero_init=False)


@pytest.fixture
def latents():
    return seeded(lambda: ReferenceBackbone(LAYOUT)).latents(points(5, LAYOUT.dim))


def test_the_published_nets_have_the_published_sizes():
    energy = PUBLISHED.build(LatentLayout(((100,), (128,))))
    assert [sum(p.numel() for p in net.parameters()) for net in energy.nets] == [20301, 106401]


def test_layerwise_energies_see_their_own_layer_alone(latents):
    energy = seeded(lambda: MLP(zero_init=False).build(LAYOUT))
    f = energy(latents)
    assert f.shape == (5, 2, 1)
    for i, (net, z) in enumerate(zip(energy.nets, latents.z, strict=True)):
        assert torch.equal(f[:, i], net(z.flatten(1)))


def test_the_concatenated_energy_is_one_net_over_all_layers(latents):
    energy = seeded(lambda: MLPConcat(zero_init=False).build(LAYOUT, logits=4))
    f = energy(latents)
    assert f.shape == (5, 1, 4)
    assert torch.equal(f[:, 0], energy.net(latents.flat_z))


@pytest.mark.parametrize("recipe", [MLP(), MLPConcat()])
def test_energies_start_at_the_base_prior(recipe, latents):
    assert not recipe.build(LAYOUT)(latents).any()


@pytest.mark.parametrize("kind", [MLP, MLPConcat])
def test_the_coordinate_decides_what_is_seen(kind, latents):
    build = lambda coordinate: seeded(lambda: kind(zero_init=False, coordinate=coordinate).build(LAYOUT))  # noqa: E731
    in_u, in_z = build("u"), build("z")
    same = type(latents)(latents.u, LAYOUT.split(latents.u), latents.sigma)
    assert torch.equal(in_u(latents), in_z(same))
    assert not torch.equal(in_u(latents), in_z(latents))


def test_one_number_serves_every_layer_and_a_tuple_must_fit():
    assert len(MLP(width=7).build(LAYOUT).nets) == 2
    with pytest.raises(ConfigError, match=r"energy\.width has 3 entries for 2 latent layers"):
        MLP(width=(7, 8, 9)).build(LAYOUT)
    with pytest.raises(ConfigError, match=r"energy\.depth"):
        MLP(depth=(1,)).build(LAYOUT)


@pytest.mark.parametrize(("recipe", "name"), [(MLP(), "mlp"), (MLPConcat(), "mlp-concat")])
def test_an_energy_without_time_refuses_levels(recipe, name):
    with pytest.raises(ConfigError, match=f"'{name}' does not depend on time"):
        recipe.build(LAYOUT, levels=3)


def test_depth_counts_hidden_layers():
    linear = [m for m in MLPConcat(depth=3, width=5).build(LAYOUT).net if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(11, 5), (5, 5), (5, 5), (5, 1)]
