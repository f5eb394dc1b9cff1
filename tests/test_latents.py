"""Layouts and latents: views, not copies; T's log-determinant and base density as their formulas say."""

import math

import pytest
import torch
from torch.distributions import Normal

from hebm import normals
from hebm.latents import LatentLayout, Latents, Posterior

LAYOUT = LatentLayout(((3,), (2, 2, 2)))


def test_sizes_count_the_elements_of_each_layer_top_first():
    assert LAYOUT.sizes == (3, 8)
    assert LAYOUT.dim == 11
    assert len(LAYOUT) == 2


def test_split_gives_views_in_the_layers_shapes_and_join_undoes_it():
    flat = torch.randn(5, 11, generator=torch.Generator().manual_seed(0))
    top, bottom = LAYOUT.split(flat)
    assert top.shape == (5, 3)
    assert bottom.shape == (5, 2, 2, 2)
    assert top.data_ptr() == flat.data_ptr()
    assert torch.equal(LAYOUT.join((top, bottom)), flat)
    top[0, 0] = 7.0
    assert flat[0, 0] == 7.0


def test_split_refuses_a_tensor_of_another_size():
    with pytest.raises(RuntimeError):
        LAYOUT.split(torch.zeros(5, 12))


def test_fixing_layers_splits_u_into_what_is_given_and_what_is_free():
    layout = LatentLayout(((2,), (1, 2), (1,)))
    given, drawn = torch.arange(10.0).view(2, 5), -torch.ones(2, 5)
    fixed = layout.fix(given, {0, 2})
    assert fixed.mask.tolist() == [True, True, False, False, True]
    assert torch.equal(fixed.apply(drawn), torch.tensor([[0.0, 1, -1, -1, 4], [5, 6, -1, -1, 9]]))
    assert torch.equal(fixed.filled(fixed.free(drawn)), fixed.apply(drawn))
    assert torch.equal(fixed.moved(drawn).apply(given), torch.where(fixed.mask, drawn, given))
    assert torch.equal(fixed.rows(slice(1, 2)).u, given[1:])
    assert torch.equal(fixed.repeated(2).u, given[[0, 0, 1, 1]])
    assert not fixed.everything
    assert layout.fix(given, {0, 1, 2}).everything


def test_a_layers_place_in_u_is_where_split_takes_it_from():
    flat = torch.arange(22.0).view(2, 11)
    assert all(torch.equal(flat[:, LAYOUT.place(i)], part.flatten(1)) for i, part in enumerate(LAYOUT.split(flat)))


def test_layouts_compare_and_hash_by_value():
    assert LatentLayout(((3,), (2, 2, 2))) == LAYOUT
    assert hash(LatentLayout(((3,), (2, 2, 2)))) == hash(LAYOUT)
    assert LatentLayout(((3,),), context=(1,)) != LatentLayout(((3,),))


def test_log_sigma_counts_a_broadcast_sigma_once_for_every_element():
    z = (torch.zeros(2, 3), torch.zeros(2, 4))
    latents = Latents(torch.zeros(2, 7), z, (torch.tensor(2.0), torch.full((2, 1), 0.5)))
    expected = 3 * math.log(2) + 4 * math.log(0.5)
    assert torch.allclose(latents.log_sigma, torch.tensor([expected, expected]))


def test_root_log_prob_is_the_backbones_own_density_of_z():
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    mean, sigma = torch.randn(4, 3, generator=generator).double(), torch.rand(4, 3, generator=generator).double() + 0.5
    latents = Latents(u, (mean + sigma * u,), (sigma,))
    expected = Normal(mean, sigma).log_prob(latents.flat_z).sum(1)
    assert torch.allclose(latents.root_log_prob, expected, atol=1e-12)


def test_detach_keeps_values_and_drops_the_graph_and_what_the_backbone_carried():
    weight = torch.ones(1, requires_grad=True)
    u = torch.ones(2, 3)
    shown = {"image": u * weight, "features": (u * weight, u * weight)}
    latents = Latents(u * weight, (u * weight,), (u * weight,), context=u * weight, carried=u * weight, shown=shown)
    detached = latents.detach()
    held = (detached.u, *detached.z, *detached.sigma, detached.context, detached.image, *detached.features)
    assert not any(tensor.requires_grad for tensor in held)
    assert all(torch.equal(tensor, u) for tensor in held)
    assert detached.carried is None


def test_detach_keeps_every_part_of_a_posterior_and_drops_its_graph():
    u, layer = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    latents, q_u = Latents(2 * u, (3 * u,), (u.exp(),)), (normals.Normal(8 * layer, 9 * layer),)
    posterior = Posterior(latents, 4 * layer, 5 * layer, 6 * layer[:, 0], (7 * layer,), q_u)
    detached = posterior.detach()
    parts = [(p.latents.u, p.latents.z[0], p.log_q, p.kl, p.log_r, p.mean[0], *p.q_u[0]) for p in (posterior, detached)]
    for whole, part in zip(*parts, strict=True):
        assert torch.equal(whole, part)
        assert whole.requires_grad
        assert not part.requires_grad
    bare = Posterior(posterior.latents).detach()
    assert (bare.log_q, bare.kl, bare.log_r, bare.mean, bare.q_u) == (None,) * 5


def test_batches_are_joined_only_where_each_knows_q_u():
    def part(value, known=True):
        layer = torch.full((2, 3), value)
        q_u = (normals.Normal(layer, layer + 1),) if known else None
        return Posterior(Latents(layer, (layer,), (layer,)), q_u=q_u)

    (q,) = Posterior.joined([part(1.0), part(2.0)]).q_u
    assert torch.equal(q.mean, torch.tensor([1.0, 1, 2, 2])[:, None].expand(4, 3))
    assert torch.equal(q.std, q.mean + 1)
    assert Posterior.joined([part(1.0), part(2.0, known=False)]).q_u is None


def test_latents_and_posteriors_are_frozen():
    latents = Latents(torch.zeros(1, 1), (torch.zeros(1, 1),), (torch.ones(1, 1),))
    with pytest.raises(AttributeError):
        latents.u = torch.ones(1, 1)
    with pytest.raises(AttributeError):
        Posterior(latents).kl = torch.ones(1, 1)
