"""The convolutional hierarchical VAE: T, its two inference models, default sizes, and settings that do not fit."""

import math

import attrs
import pytest
import torch
from real_runs import differences, tiny, train

from hebm.errors import ConfigError
from hebm.interfaces import Batch, ImageSpec, Progress
from hebm.likelihoods import BernoulliPixels, GaussianPixels
from hebm.noise import Noise
from hebm.testing import cases, parametrize
from hebm.testing.subjects import SMALL_IMAGES, image_batch, perturbed, points, seeded
from hebm_plugins.hvae.recipe import HVAE
from hebm_plugins.pixels.logistic_mixture import LogisticMixturePixels

SMALL = HVAE(z_strides=(0, 2, 2), z_channels=(3, 2, 1), channels=4, units=8)
SHARED = attrs.evolve(SMALL, inference="shared")
FLAT = attrs.evolve(SMALL, z_strides=(0, 0), z_channels=(3, 4), blocks=0)
SPATIAL = attrs.evolve(SHARED, z_strides=(2, 1), z_channels=1, likelihood="bernoulli")
ONE = attrs.evolve(SMALL, z_strides=(2,), z_channels=2)
VARIANTS = [SMALL, SHARED, FLAT, SPATIAL, ONE]
COLOUR = ImageSpec(3, 16, 8)


def built(recipe=SMALL, images=SMALL_IMAGES):
    return perturbed(seeded(lambda: recipe.build(images)), 0.1).double().eval()


def repeated(images, n):
    one = image_batch(images, 1, torch.float64)
    return attrs.evolve(one, x=one.x.expand(n, -1, -1, -1), target=one.target.expand(n, -1, -1, -1))


@parametrize([case for recipe in VARIANTS for case in cases(recipe)])
def test_every_variant_keeps_the_promises_of_a_backbone(check):
    check()


@parametrize([case for recipe in (SMALL, SHARED) for case in cases(recipe, images=COLOUR)])
def test_colour_images_keep_the_promises_of_a_backbone(check):
    check()


def test_t_is_its_formula():
    backbone = built()
    u = points(5, backbone.layout.dim, torch.float64)
    z3, u2, u1 = backbone.layout.split(u)
    mean, log_std = backbone.conditionals[0].net(z3).chunk(2, 1)
    z2 = mean + (3 * torch.tanh(log_std / 3)).exp() * u2
    mean, log_std = backbone.conditionals[1].net(z2).chunk(2, 1)
    z1 = mean + (3 * torch.tanh(log_std / 3)).exp() * u1
    z = backbone.latents(u).z
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(z, (z3, z2, z1), strict=True))


@pytest.mark.parametrize("recipe", VARIANTS)
def test_t_and_its_inverse_agree_to_1e_9_in_float64(recipe):
    backbone = built(recipe)
    u = 2 * points(20, backbone.layout.dim, torch.float64)
    latents = backbone.latents(u)
    back = backbone.invert(latents.z)
    assert torch.allclose(back.u, u, rtol=0, atol=1e-9)
    assert torch.allclose(backbone.latents(back.u).flat_z, latents.flat_z, rtol=0, atol=1e-9)


def test_log_sigma_of_the_prior_stays_within_its_bound():
    backbone = built(attrs.evolve(SMALL, log_sigma_bound=0.5))
    with torch.no_grad():
        sigma = backbone.latents(1e4 * points(50, backbone.layout.dim, torch.float64)).sigma
    logs = torch.cat([part.log().flatten() for part in sigma[1:]])
    assert 0.45 < float(logs.abs().max()) <= 0.5


@pytest.mark.parametrize("recipe", VARIANTS)
def test_the_kl_is_that_of_many_draws(recipe):
    backbone, n = built(recipe), 4096
    with torch.no_grad():
        posterior = backbone.infer(repeated(SMALL_IMAGES, n), Noise(0, "q", dtype=torch.float64))
        other = backbone.infer(repeated(SMALL_IMAGES, n), Noise(1, "q", dtype=torch.float64))
    # one draw's log q − log p, against the KL of other draws
    one_sample = other.log_q.sum(1) - other.latents.root_log_prob
    spread = math.hypot(float(one_sample.std()), float(posterior.kl.sum(1).std()))
    assert abs(float(one_sample.mean() - posterior.kl.sum(1).mean())) < 4 * spread / math.sqrt(n)
    assert float(posterior.kl.mean(0).min()) > 0


def test_analytic_layers_have_a_kl_of_at_least_zero_for_every_image():
    batch = image_batch(SMALL_IMAGES, 64, torch.float64)
    with torch.no_grad():
        shared = built(SHARED).infer(batch, Noise(0, "q", dtype=torch.float64)).kl
        chain = built(SMALL).infer(batch, Noise(0, "q", dtype=torch.float64)).kl
    assert float(shared.min()) > 0
    assert float(chain[:, 0].min()) > 0


def test_bottom_up_inference_sees_the_image_through_the_lowest_layer_alone():
    batch, noise = image_batch(SMALL_IMAGES, 2, torch.float64), Noise(0, "q", dtype=torch.float64)
    for recipe, through_z in ((SMALL, True), (SHARED, False)):
        backbone = built(recipe)
        xi = list(backbone.layout.split(noise.normal(2, backbone.layout.dim)))
        before = backbone.inference(batch.x, tuple(xi)).q[0].mean
        after = backbone.inference(batch.x, (xi[0], xi[1], xi[2] + 1)).q[0].mean
        assert (not torch.equal(before, after)) == through_z


@pytest.mark.parametrize("recipe", [SMALL, SHARED])
def test_training_reduces_minus_elbo(recipe):
    backbone = seeded(lambda: recipe.build(SMALL_IMAGES))
    ramp = torch.linspace(-1, 1, 8).expand(64, 1, 8, 8) * image_batch(SMALL_IMAGES, 64).x[:, :, :1, :1]
    batch = Batch(ramp, ramp, None, torch.arange(64))
    optimizer = torch.optim.Adam(backbone.parameters(), lr=1e-2)
    losses = []
    for step in range(40):
        loss = backbone.objective(batch, Noise(0, "q", step), Progress(step, 40)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


@pytest.mark.parametrize(("step", "weight"), [(0, 0.0), (1, 0.25), (4, 1.0), (8, 1.0)])
def test_the_weight_of_the_kl_rises_over_its_warm_up(step, weight):
    batch, backbone = image_batch(SMALL_IMAGES, 6, torch.float64), built(attrs.evolve(SMALL, kl_warmup=0.5))
    loss = backbone.objective(batch, Noise(0, "q", dtype=torch.float64), Progress(step, 8))
    expected = loss.terms["reconstruction"] + weight * loss.terms["kl"]
    assert torch.allclose(loss.total, expected)
    assert torch.allclose(-loss.terms["elbo"], loss.terms["reconstruction"] + loss.terms["kl"])


@pytest.mark.parametrize(
    ("side", "map_side"),
    [
        (8, 4),
        (28, 7),
        (32, 8),
        (48, 12),
        (64, 8),
        (256, 8),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_defaults_fit_images_of_the_usual_sizes(side, map_side, channels):
    images = ImageSpec(channels, side, side)
    with torch.device("meta"):
        backbone = HVAE().build(images)
        assert backbone.layout.shapes == ((32,), (32,), (4 if channels == 1 else 8, map_side, map_side))
        likelihood = backbone.likelihood(backbone.latents(torch.zeros(2, backbone.layout.dim)))
        assert likelihood.mean.shape == (2, *images.shape)


def test_layers_may_be_any_number():
    shapes = {n: HVAE(layers=n).build(SMALL_IMAGES).layout.shapes for n in (1, 2, 5)}
    assert shapes == {n: ((32,),) * (n - 1) + ((4, 4, 4),) for n in (1, 2, 5)}


@pytest.mark.parametrize(
    ("images", "fields", "kind"),
    [
        (ImageSpec(1, 8, 8, binary=True), {}, BernoulliPixels),
        (ImageSpec(3, 8, 8, binary=True), {}, BernoulliPixels),
        (ImageSpec(1, 8, 8), {}, GaussianPixels),
        (ImageSpec(3, 8, 8), {}, LogisticMixturePixels),
        (ImageSpec(3, 8, 8), {"likelihood": "gaussian", "pixel_std": 0.2}, GaussianPixels),
        (ImageSpec(1, 8, 8), {"likelihood": "bernoulli"}, BernoulliPixels),
    ],
)
def test_the_likelihood_is_as_chosen_or_as_the_images_ask(images, fields, kind):
    backbone = built(attrs.evolve(SMALL, **fields), images)
    likelihood = backbone.likelihood(backbone.latents(points(2, backbone.layout.dim, torch.float64)))
    assert isinstance(likelihood, kind)
    assert getattr(likelihood, "std", None) == fields.get("pixel_std", getattr(likelihood, "std", None))


@pytest.mark.parametrize("images", [ImageSpec(1, 27, 28), ImageSpec(1, 4, 8), ImageSpec(3, 32, 33)])
def test_images_that_cannot_be_halved_are_refused_with_the_fix(images):
    with pytest.raises(ConfigError, match="resize or pad them"):
        HVAE().build(images)


@pytest.mark.parametrize("strides", [(0, 8), (3,), ()])
def test_strides_that_do_not_fit_are_refused_with_those_that_do(strides):
    with pytest.raises(ConfigError, match=r"z_strides.*one of 0, 1, 2, 4 \(0: flat\)"):
        HVAE(z_strides=strides).build(ImageSpec(1, 28, 28))


@pytest.mark.parametrize("strides", [(2, 4), (4, 0)])
def test_a_layer_coarser_than_the_one_above_it_is_refused(strides):
    with pytest.raises(ConfigError, match="listed top first"):
        HVAE(z_strides=strides).build(ImageSpec(1, 28, 28))


def test_channels_for_another_number_of_layers_are_refused():
    with pytest.raises(ConfigError, match="z_channels has 2 entries for 3"):
        HVAE(z_channels=(3, 4)).build(SMALL_IMAGES)


def test_strides_for_another_number_of_layers_are_refused():
    with pytest.raises(ConfigError, match="z_strides has 2 entries for backbone"):
        HVAE(layers=3, z_strides=(0, 2)).build(SMALL_IMAGES)


def test_a_mixture_of_logistics_over_grey_images_is_refused():
    with pytest.raises(ConfigError, match="needs colour images"):
        HVAE(likelihood="logistic-mixture").build(SMALL_IMAGES)


@pytest.mark.parametrize("recipe", [SMALL, SHARED])
def test_generative_leaves_the_inference_model_out(recipe):
    backbone = built(recipe)
    inside = {id(p) for module in backbone.generative() for p in module.parameters()}
    assert {id(p) for p in backbone.parameters()} - inside == {id(p) for p in backbone.inference.parameters()}


def hvae_run(inference):
    table = tiny()
    table["backbone"] = {"type": "hvae", "z_channels": [3, 3, 1], "channels": 2, "units": 4, "blocks": 1}
    table["backbone"] |= {"inference": inference, "kl_warmup": 0.5}
    return table


@pytest.mark.parametrize("inference", ["bottom-up", "shared"])
def test_a_stopped_and_resumed_run_equals_a_whole_one_bit_for_bit(tmp_path, inference):
    table = hvae_run(inference)
    assert train(table, tmp_path / "whole")
    for stop in (3, 6):  # in each phase
        assert not train(table, tmp_path / "stopped", stop_after=stop)
    assert train(table, tmp_path / "stopped")
    assert differences(tmp_path / "stopped", tmp_path / "whole") == []
