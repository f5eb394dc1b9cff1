"""Time-aware perceptrons: their formula, their start, and what is refused."""

import pytest
import torch
from torch.nn import functional as F

from hebm.errors import ConfigError
from hebm.latents import LatentLayout, Latents
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import points, seeded
from hebm_plugins.energies.mlp_time import MLPTime
from hebm_plugins.energies.time_embedding import sinusoids

LAYOUT = LatentLayout(((3,), (2, 2, 2)))


def latents() -> Latents:
    return seeded(lambda: ReferenceBackbone(LAYOUT)).latents(points(5, LAYOUT.dim))


def test_the_level_is_added_to_every_hidden_layer():
    energy = seeded(lambda: MLPTime(width=6, depth=2, zero_init=False).build(LAYOUT, logits=2))
    t, net, at = torch.tensor([0, 1, 2, 3, 4]), energy.nets[1], latents()
    s = F.silu(net.time(sinusoids(t, at.u)))
    x = F.silu(net.hidden[0](at.z[1].flatten(1)) + s @ net.times[0].weight.T)
    x = F.silu(net.hidden[1](x) + s @ net.times[1].weight.T)
    torch.testing.assert_close(energy(at, t)[:, 1], net.out(x))


def test_it_starts_at_the_base_prior_at_every_level():
    energy = MLPTime().build(LAYOUT, logits=3, levels=6)
    assert not energy(latents(), torch.arange(5)).any()
    assert not energy.folded(torch.arange(5))(latents()).any()


def test_a_normalised_weight_cannot_start_at_zero():
    with pytest.raises(ConfigError, match=r"set prior\.energy\.zero_init = false"):
        MLPTime(spectral_norm=True).build(LAYOUT)
    assert MLPTime(spectral_norm=True, zero_init=False).build(LAYOUT).eval()(latents()).isfinite().all()


def test_one_number_serves_every_layer_and_a_tuple_must_fit():
    nets = MLPTime(width=(4, 6), depth=(1, 3)).build(LAYOUT).nets
    assert [(len(net.hidden), net.out.in_features) for net in nets] == [(1, 4), (3, 6)]
    with pytest.raises(ConfigError, match=r"energy\.width has 3 entries for 2 latent layers"):
        MLPTime(width=(7, 8, 9)).build(LAYOUT)


def test_layers_of_one_shape_with_nets_of_different_width_are_evaluated_apart():
    layout = LatentLayout(((3,), (3,), (3,)))
    energy = seeded(lambda: MLPTime(width=(4, 6, 4), zero_init=False).build(layout))
    at = seeded(lambda: ReferenceBackbone(layout)).latents(points(5, 9))
    folded = energy.folded(torch.arange(5))
    assert folded.groups == [[0, 2], [1]]
    torch.testing.assert_close(folded(at), energy(at, torch.arange(5)))
