"""Energies of a layer and the decoder's feature there: formula, one net a layer, ncp's negatives, levels."""

import pytest
import torch

from hebm.errors import ConfigError
from hebm.gaussian import Gaussian
from hebm.interfaces import ImageSpec, Posterior, Progress, Request
from hebm.latents import LatentLayout
from hebm.noise import Noise
from hebm.testing import ReferenceBackbone
from hebm.testing.subjects import perturbed, points, seeded
from hebm.tilts import Tilt, seen_by
from hebm_plugins.energies.feature_mlp import FeatureMLP
from hebm_plugins.hvae.recipe import HVAE
from hebm_plugins.nvae.recipe import NVAETiny
from hebm_plugins.priors.diffusion.recipe import Diffusion
from hebm_plugins.priors.ncp.prior import LayerDrawing, NCPPrior, redrawn
from hebm_plugins.priors.ncp.recipe import NCP
from hebm_plugins.samplers.ula import ULA
from hebm_plugins.two_layer.recipe import TwoLayer

IMAGES = ImageSpec(1, 16, 16)
BACKBONES = {
    "nvae": NVAETiny(channels=4, groups=2, latent_channels=2),
    "hvae": HVAE(channels=4),
    "two-layer": TwoLayer(z_dims=(3, 4), widths=(6, 4), prior_width=5, inference_width=7),
}


@pytest.fixture(params=BACKBONES)
def backbone(request):
    return perturbed(seeded(lambda: BACKBONES[request.param].build(IMAGES))).eval()


def energy_for(backbone, **options):
    return seeded(lambda: FeatureMLP(width=6, zero_init=False, **options).build(backbone.layout))


def test_each_net_sees_its_layer_with_the_feature_that_the_layers_prior_is_computed_from(backbone):
    energy = energy_for(backbone)
    u = points(3, backbone.layout.dim)
    latents = seen_by(energy, backbone, u)
    f = energy(latents)
    assert f.shape == (3, len(backbone.layout), 1)
    for i, (net, z, feature) in enumerate(zip(energy.nets, latents.z, latents.features, strict=True)):
        expected = net(torch.cat([z.flatten(1), feature.flatten(1)], dim=1))
        assert torch.equal(f[:, i], expected)
        torch.testing.assert_close(energy.of_layer(latents, i), expected)
    of_u = energy_for(backbone, coordinate="u")
    one = torch.cat([backbone.layout.split(u)[1].flatten(1), latents.features[1].flatten(1)], dim=1)
    assert torch.equal(of_u(latents)[:, 1], of_u.nets[1](one))


def test_a_feature_depends_on_the_layers_above_alone(backbone):
    u = points(3, backbone.layout.dim).requires_grad_()
    latents = seen_by(energy_for(backbone), backbone, u)
    for i, feature in enumerate(latents.features):
        assert feature.shape[1:] == backbone.layout.features[i]
        total = (feature + 0 * u.sum()).sum()
        (grad,) = torch.autograd.grad(total, u, allow_unused=True, materialize_grads=True, retain_graph=True)
        reached = [bool(part.any()) for part in backbone.layout.split(grad)]
        assert not any(reached[i:])
        assert reached[i - 1] or i == 0


def test_one_layers_energy_runs_one_net(backbone):
    energy, ran = energy_for(backbone), []
    for i, net in enumerate(energy.nets):
        net.register_forward_hook(lambda *_, i=i: ran.append(i))
    energy.of_layer(seen_by(energy, backbone, points(2, backbone.layout.dim)), 1)
    assert ran == [1]


# ---------------------------------------------------------------- in ncp


@pytest.fixture
def reference():
    return seeded(ReferenceBackbone)


def test_negatives_of_a_layer_keep_the_feature_above_them(reference):
    latents = seen_by(energy_for(reference), reference, points(4, reference.layout.dim))
    fresh = points(4, 4, name="fresh")
    moved = redrawn(latents, reference.layout, {1: fresh})
    u = torch.cat([latents.u[:, :3], fresh], dim=1)
    there = seen_by(energy_for(reference), reference, u)
    torch.testing.assert_close(moved.z[1], there.z[1])
    torch.testing.assert_close(moved.features, there.features)


@pytest.mark.parametrize("numbers", [2**25, 1])
def test_a_layer_is_chosen_by_its_energy_given_the_feature_above(reference, numbers, monkeypatch):
    monkeypatch.setattr("hebm_plugins.priors.ncp.prior._NUMBERS", numbers)
    energy = perturbed(energy_for(reference), 2.0)
    drawing = LayerDrawing("sir", 400, ULA(steps=3))
    prior = NCPPrior(Gaussian().build(reference), energy, reference.layout, drawing)
    n = 300
    draw = prior.sample(reference, n, Noise(0, "sample"))
    tilt = Tilt(prior.tilt, (prior,))
    base = points(n, reference.layout.dim)
    f, f_base = (tilt.at(reference, reference.latents(u)).detach() for u in (draw.u, base))
    weights = f_base[:, 0].softmax(0)
    expected = (weights * f_base[:, 0]).sum()
    assert abs(float(f[:, 0].mean() - expected)) < 0.2 * float(f_base[:, 0].std())
    assert bool((f.mean(0) > f_base.mean(0)).all())


def test_ncp_with_fixed_layers_below_weighs_how_well_a_layer_fits_them(reference):
    energy = energy_for(reference)
    prior = NCPPrior(Gaussian().build(reference), energy, reference.layout, LayerDrawing("sir", 50, ULA(steps=3)))
    u = points(6, reference.layout.dim)
    fixed = reference.layout.fix(u, {1})
    draw = prior.sample(reference, 6, Noise(0, "sample"), Request(fixed=fixed))
    assert torch.equal(draw.u[:, 3:], u[:, 3:])
    assert draw.u.isfinite().all()


def test_dropout_and_penalty_are_in_the_loss_of_ncp(reference):
    losses = []
    for options in ({}, {"dropout": 0.5}, {"gradient_penalty": 2.0}):
        prior = NCP(proposals=10, energy=FeatureMLP(width=6, zero_init=False, **options))
        made = seeded(lambda prior=prior: prior.build(reference))
        latents = seen_by(made, reference, points(8, reference.layout.dim)).detach()
        losses.append(made.objective(reference, Posterior(latents), Noise(0, "step"), Progress(0, 1)))
    plain, dropped, penalised = losses
    assert not torch.equal(plain.total, dropped.total)
    torch.testing.assert_close(penalised.total, plain.total + penalised.terms["penalty"])


# ---------------------------------------------------------------- with levels


def test_with_levels_the_diffusion_prior_sees_the_features_of_each_levels_latents(reference):
    prior = seeded(lambda: Diffusion(energy=FeatureMLP(width=6, zero_init=False), levels=2).build(reference))
    latents = seen_by(prior, reference, points(4, reference.layout.dim))
    low, high = (prior.energy(latents, torch.full((4,), t)) for t in (0, 1))
    assert low.shape == (4, 2, 1)
    assert bool((low != high).all())
    loss = prior.objective(reference, Posterior(latents.detach()), Noise(0, "step"), Progress(0, 1))
    loss.total.backward()
    assert all(p.grad is not None for p in prior.energy.parameters())


def test_a_backbone_that_shows_no_features_is_refused():
    with pytest.raises(ConfigError, match=r"sees the decoder's features at each layer .* does not show; use an"):
        FeatureMLP().build(LatentLayout(((3,), (4,)), image=(1, 8, 8)))
