"""The flat-latent generator: T, its inference models, published sizes, and images that do not fit."""

import math

import attrs
import pytest
import torch
from torch.distributions import Normal

from hebm.errors import ConfigError
from hebm.gaussian import Gaussian
from hebm.interfaces import ImageSpec, InferringBackbone, Progress
from hebm.likelihoods import BernoulliPixels, GaussianPixels
from hebm.noise import Noise
from hebm.testing.subjects import SMALL_IMAGES, image_batch, perturbed, points, seeded
from hebm.trained import TrainedModel
from hebm.training.two_phase import TwoPhase
from hebm_plugins.two_layer.presets import TwoLayerJoint, TwoLayerMultiStage
from hebm_plugins.two_layer.recipe import TwoLayer

SMALL = TwoLayer(z_dims=(3, 4), widths=(6, 4), prior_width=5, inference_width=7)


def built(recipe=SMALL, images=SMALL_IMAGES, **changes):
    return perturbed(seeded(lambda: attrs.evolve(recipe, **changes).build(images)), 0.1).double().eval()


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_t_is_its_formula():
    backbone = built(z_dims=(2, 3, 4))
    u = points(5, 9, torch.float64)
    top, middle, bottom = backbone.layout.split(u)
    z3 = 1.01 * top
    mean, log_std = backbone.conditionals[0].net(z3).chunk(2, 1)
    z2 = mean + ((3 * torch.tanh(log_std / 3)).exp() + 0.01) * middle
    mean, log_std = backbone.conditionals[1].net(z2).chunk(2, 1)
    z1 = mean + ((3 * torch.tanh(log_std / 3)).exp() + 0.01) * bottom
    assert torch.allclose(backbone.latents(u).flat_z, torch.cat([z3, z2, z1], 1), atol=1e-12)


def test_one_layer_is_the_flat_model():
    backbone = built(z_dims=(4,), sigma_offset=0.0)
    u = points(5, 4, torch.float64)
    latents = backbone.latents(u)
    assert torch.equal(latents.flat_z, u)
    assert not latents.log_sigma.any()


def test_sigma_offset_bounds_every_sigma_from_below():
    backbone = built(sigma_offset=0.5)
    sigma = backbone.latents(points(100, 7, torch.float64)).sigma
    assert float(sigma[0]) == 1.5
    assert float(sigma[1].detach().min()) > 0.5


def test_the_likelihood_is_as_chosen():
    u = points(5, 7, torch.float64)
    gaussian, bernoulli = built(pixel_std=0.2), built(likelihood="bernoulli")
    assert isinstance(gaussian.likelihood(gaussian.latents(u)), GaussianPixels)
    assert gaussian.likelihood(gaussian.latents(u)).std == 0.2
    assert isinstance(bernoulli.likelihood(bernoulli.latents(u)), BernoulliPixels)


@pytest.mark.parametrize("inference", ["top-down", "bottom-up"])
def test_the_kl_is_that_of_many_draws(inference):
    backbone, n = built(inference=inference), 8192
    one = image_batch(SMALL_IMAGES, 1, torch.float64)
    many = attrs.evolve(one, x=one.x.expand(n, -1, -1, -1), target=one.target.expand(n, -1, -1, -1))
    with torch.no_grad():
        posterior = backbone.infer(many, Noise(0, "q", dtype=torch.float64))
    one_sample = posterior.log_q.sum(1) - posterior.latents.root_log_prob
    difference = one_sample - posterior.kl.sum(1)
    error = 4 * float(difference.std()) / math.sqrt(n) + 1e-9
    assert abs(float(difference.mean())) < error
    assert inference == "bottom-up" or float(posterior.kl.min()) > 0


@pytest.mark.parametrize("inference", ["top-down", "bottom-up"])
def test_log_q_is_the_density_of_the_draw(inference):
    backbone = built(z_dims=(4,), inference=inference)
    batch = image_batch(SMALL_IMAGES, 6, torch.float64)
    posterior = backbone.infer(batch, Noise(0, "q", dtype=torch.float64))
    xi = Noise(0, "q", dtype=torch.float64).normal(6, 4)
    # z = m + s ξ, so log q = log N(ξ; 0, 1) − log s; s is ∂z/∂ξ, by a second draw with another ξ
    other = backbone.infer(batch, Noise(1, "q", dtype=torch.float64))
    std = (posterior.latents.flat_z - other.latents.flat_z) / (xi - Noise(1, "q", dtype=torch.float64).normal(6, 4))
    expected = (Normal(0.0, 1.0).log_prob(xi) - std.log()).sum(1)
    assert torch.allclose(posterior.log_q[:, 0], expected, atol=1e-8)


def test_the_objective_is_minus_the_elbo():
    backbone, batch = built(), image_batch(SMALL_IMAGES, 6, torch.float64)
    loss = backbone.objective(batch, Noise(0, "q", dtype=torch.float64), Progress(0, 1))
    posterior = backbone.infer(batch, Noise(0, "q", dtype=torch.float64))
    log_likelihood = backbone.likelihood(posterior.latents).log_prob(batch.target)
    assert torch.allclose(loss.total, posterior.kl.sum(1).mean() - log_likelihood.mean())


def test_without_inference_model_it_cannot_infer_and_two_phase_says_so():
    backbone = built(inference="none")
    assert not isinstance(backbone, InferringBackbone)
    assert isinstance(built(), InferringBackbone)
    with pytest.raises(ConfigError, match=r"backbone\.inference"):
        TwoPhase().phases(backbone, Gaussian().build(backbone))
    with pytest.raises(ConfigError, match="no inference model"):
        TrainedModel(backbone, Gaussian().build(backbone)).infer(image_batch(SMALL_IMAGES, 1), Noise(0))


def test_generative_leaves_the_inference_model_out():
    backbone = built()
    inside = {id(p) for module in backbone.generative() for p in module.parameters()}
    assert {id(p) for p in backbone.parameters()} - inside == {id(p) for p in backbone.inference.parameters()}


@pytest.mark.parametrize(("recipe", "conditional", "generator"), [(TwoLayerJoint(), 192_256, 18_883_075)])
def test_the_joint_preset_has_the_published_sizes(recipe, conditional, generator):
    with torch.device("meta"):
        backbone = recipe.build(ImageSpec(3, 32, 32))
    assert count(backbone.conditionals) == conditional
    assert count(backbone.generator) == generator
    assert not isinstance(backbone, InferringBackbone)


def test_the_multi_stage_preset_builds_for_cifar():
    with torch.device("meta"):
        backbone = TwoLayerMultiStage().build(ImageSpec(3, 32, 32))
        latents = backbone.latents(torch.zeros(2, 200))
        assert backbone.likelihood(latents).mean.shape == (2, 3, 32, 32)


@pytest.mark.parametrize("side", [8, 16, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_8_to_64_pixels_fit(side, channels):
    images = ImageSpec(channels, side, side)
    backbone = built(images=images)
    batch = image_batch(images, 2, torch.float64)
    posterior = backbone.infer(batch, Noise(0, dtype=torch.float64))
    assert backbone.likelihood(posterior.latents).mean.shape == (2, *images.shape)


@pytest.mark.parametrize("images", [ImageSpec(2, 32, 32), ImageSpec(3, 4, 32), ImageSpec(3, 32, 128)])
def test_other_images_are_refused(images):
    with pytest.raises(ConfigError, match="resize the images"):
        SMALL.build(images)


def test_widths_that_do_not_divide_the_image_are_refused():
    with pytest.raises(ConfigError, match="doublings"):
        attrs.evolve(SMALL, widths=(8, 8, 8, 8)).build(ImageSpec(1, 28, 28))


@pytest.mark.parametrize("key", ["z_dims", "widths"])
def test_empty_tuples_are_refused(key):
    with pytest.raises(ConfigError, match=f"backbone.{key} is empty"):
        TwoLayer(**{key: ()})
