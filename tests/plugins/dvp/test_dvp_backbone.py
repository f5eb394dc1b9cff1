"""DVP-VAE's backbone: what it does beyond the published vectors, and what it refuses."""

import math
import re

import attrs
import pytest
import torch

from hebm.data.images import ArrayImages
from hebm.errors import ConfigError
from hebm.interfaces import ImageSpec
from hebm.noise import Noise
from hebm.testing.subjects import contexts, image_batch, perturbed, points, seeded
from hebm_plugins.dvp.pseudo_inputs import BOUNDS, DCT, PSEUDO_INPUTS
from hebm_plugins.dvp.recipe import DVP

GREY, COLOUR = ImageSpec(1, 8, 8, binary=True), ImageSpec(3, 8, 8)
SMALL = {"latents": (1, 2), "channels": 8, "encoder_blocks": 1, "context_size": 3}


def built(images=GREY, **options):
    return seeded(lambda: DVP(**{**SMALL, **options}).build(images)).double().eval()


def batch(images=GREY, rows=4):
    return image_batch(images, rows, torch.float64)


# ------------------------------------------------------------ the ladder


def test_layers_stand_top_first_at_their_scales():
    assert built().layout.shapes == ((1, 2, 2), (1, 4, 4), (1, 4, 4))
    assert built(full_resolution=True).layout.shapes == ((1, 4, 4), (1, 8, 8), (1, 8, 8))
    assert built(COLOUR).layout.shapes == ((3, 2, 2), (3, 4, 4), (3, 4, 4))
    assert built(aggregate=False, width=2).layout.shapes == ((2, 2, 2), (2, 4, 4), (2, 4, 4))


@pytest.mark.parametrize("aggregate", [True, False])
@pytest.mark.parametrize("pseudo_input", [*PSEUDO_INPUTS, "none"])
@pytest.mark.parametrize("images", [GREY, COLOUR])
def test_the_analytic_kl_is_the_mean_of_the_sampled_one(images, pseudo_input, aggregate):
    backbone = perturbed(built(images, pseudo_input=pseudo_input, aggregate=aggregate), 0.05)
    one, rows = batch(images, 1), 1500
    many = attrs.evolve(one, x=one.x.expand(rows, -1, -1, -1), target=one.target.expand(rows, -1, -1, -1))
    posterior = backbone.infer(many, Noise(0, "infer", dtype=torch.float64))
    log_sigma = torch.stack([s.log().flatten(1).sum(1) for s in posterior.latents.sigma], dim=1)
    parts = [part.flatten(1) for part in backbone.layout.split(posterior.latents.u)]
    log_p = torch.stack([-0.5 * (u.square() + math.log(2 * math.pi)).sum(1) for u in parts], dim=1) - log_sigma
    difference = posterior.log_q - log_p - posterior.kl
    error = difference.std(0) / math.sqrt(len(difference))
    assert (difference.mean(0).abs() < 4.5 * error + 1e-12).all()
    assert (difference.std(0) > 0).all()


def test_the_context_reaches_every_layers_prior_and_not_p_of_x_given_z():
    backbone = perturbed(built(), 0.2)
    u, c = points(4, backbone.layout.dim, torch.float64), contexts(backbone.layout, 4, torch.float64)
    one, other = backbone.latents(u, 0.1 * c), backbone.latents(u, -0.1 * c)
    for a, b in zip(one.z, other.z, strict=True):
        assert not torch.equal(a, b)
    again = backbone.invert(one.z, -0.1 * c)
    assert torch.equal(backbone.likelihood(again).logits, backbone.likelihood(one).logits)
    assert not torch.equal(again.u, one.u)


@pytest.mark.parametrize("shape", [None, (2, 1, 3, 2)])
def test_a_context_that_is_missing_or_of_another_shape_is_refused(shape):
    backbone = built()
    u = points(2, backbone.layout.dim, torch.float64)
    with pytest.raises(ConfigError, match=r"need a context of shape \(B, 1, 3, 3\), not"):
        backbone.latents(u, None if shape is None else torch.zeros(shape, dtype=torch.float64))


def test_with_aggregation_x_is_of_the_sum_of_latents_over_root_l():
    backbone = built()
    z = [torch.full((1, *shape), float(i), dtype=torch.float64) for i, shape in enumerate(backbone.layout.shapes)]
    assert torch.allclose(backbone.aggregated(z), torch.full((1, 1, 8, 8), 3 / math.sqrt(3), dtype=torch.float64))


def test_without_aggregation_every_latent_reaches_the_image_through_the_state():
    backbone = perturbed(built(aggregate=False), 0.1)
    u = points(1, backbone.layout.dim, torch.float64).requires_grad_()
    context = 0 * contexts(backbone.layout, 1, torch.float64)
    backbone.likelihood(backbone.latents(u, context)).logits.sum().backward()
    assert (u.grad != 0).all()


def test_probabilities_of_pixels_are_clamped():
    backbone = built()
    with torch.no_grad():
        backbone.head.out.bias.fill_(1e3)
    u = points(2, backbone.layout.dim, torch.float64)
    with torch.no_grad():
        pixels = backbone.likelihood(backbone.latents(u, 0 * contexts(backbone.layout, 2, torch.float64)))
    assert float(pixels.logits.max()) == pytest.approx(math.log((1 - 1e-7) / 1e-7))
    dark = -torch.ones(2, 1, 8, 8, dtype=torch.float64)
    assert pixels.log_prob(dark).tolist() == pytest.approx([64 * math.log(1e-7)] * 2)


def test_log_variances_stay_within_their_bounds():
    backbone = built(log_var_bounds=(-1.0, 0.5))
    with torch.no_grad():
        for layer in backbone.layers:
            layer.prior.last.bias.fill_(50.0)
    u = points(2, backbone.layout.dim, torch.float64)
    latents = backbone.latents(u, 0 * contexts(backbone.layout, 2, torch.float64))
    assert all(torch.allclose(s, torch.full_like(s, math.exp(0.25))) for s in latents.sigma)


# ------------------------------------------------------------ pseudo-inputs


@pytest.mark.parametrize("kind", PSEUDO_INPUTS)
def test_the_variance_of_a_pseudo_input_is_clamped_where_it_is_stored_and_keeps_its_gradient(kind):
    pseudo = seeded(lambda: PSEUDO_INPUTS[kind](GREY, 3, -6.0)).double()
    with torch.no_grad():
        pseudo.log_var[0, 0] = torch.tensor([-20.0, 3.0, -6.0])
    c, _ = pseudo.draw(batch().x, Noise(0, "c", dtype=torch.float64))
    assert pseudo.log_var[0, 0].tolist() == [BOUNDS[0], BOUNDS[1], -6.0]
    c.square().sum().backward()
    assert (pseudo.log_var.grad != 0).all()


def test_a_trained_pseudo_input_is_not_changed_by_its_evaluation():
    pseudo = DCT(GREY, 3, -6.0).eval()
    with torch.no_grad():
        pseudo.log_var.fill_(3.0)
    assert (pseudo.spread() == BOUNDS[1]).all()
    assert (pseudo.log_var == 3.0).all()


@pytest.mark.parametrize("kind", PSEUDO_INPUTS)
def test_log_r_is_the_density_of_the_draw(kind):
    pseudo = seeded(lambda: PSEUDO_INPUTS[kind](COLOUR, 3, -6.0)).double()
    x = batch(COLOUR).x
    c, log_r = pseudo.draw(x, Noise(0, "c", dtype=torch.float64))
    std = torch.tensor(math.exp(-3.0), dtype=torch.float64)
    expected = torch.distributions.Normal(pseudo.mean(x), std).log_prob(c).flatten(1).sum(1)
    assert torch.allclose(log_r, expected)


def dark_images(n=30):
    """Whose high frequencies stay below 1, and one bright image at the end."""
    pixels = torch.zeros(n, 1, 8, 8, dtype=torch.uint8)
    pixels[:, :, 0, 0] = 40
    pixels[-1] = 250
    return ArrayImages(pixels, torch.zeros(n, dtype=torch.long), ("all",))


def test_what_inference_has_made_can_be_trained_through():
    pseudo = DCT(ImageSpec(1, 8, 8), 5, -6.0)
    c = torch.zeros(1, 1, 5, 5)
    with torch.inference_mode():
        pseudo.image(c)
    c = (c + 0.1).requires_grad_()
    pseudo.image(c).sum().backward()
    assert c.grad is not None


def test_a_scale_of_zero_is_guarded():
    pseudo = DCT(GREY, 3, -6.0)
    pseudo.fit(dark_images(), None)
    expected = torch.ones(1, 3, 3)
    expected[0, 0, 0] = 7.0  # 8 · 250/255, rounded down
    assert torch.equal(pseudo.scale, expected)
    assert pseudo.mean(batch().x.float()).isfinite().all()


def test_the_scale_is_of_so_many_images_as_asked():
    pseudo = DCT(GREY, 3, -6.0)
    pseudo.fit(dark_images(), 29)
    assert pseudo.scale.max() == 1.0


def test_statistics_are_taken_by_the_backbone_where_there_are_any():
    backbone = built()
    backbone.fit_statistics(dark_images())
    assert backbone.pseudo_input.scale[0, 0, 0] == 7.0
    plain = built(pseudo_input="none")
    before = {name: t.clone() for name, t in plain.state_dict().items()}
    plain.fit_statistics(dark_images())
    assert all(torch.equal(t, before[name]) for name, t in plain.state_dict().items())


# ------------------------------------------------------------ reasons


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (ImageSpec(1, 12, 12), {"latents": (1, 1, 1)}, "3 scales need sides that 8 divides, the images are 12x12"),
        (GREY, {"width": 2}, "latents are added as images, so they need 1 channel"),
        (GREY, {"context_size": 9}, "images of 8x8 pixels have fewer frequencies per side"),
        (COLOUR, {"likelihood": "bernoulli"}, 'data.binarize = "target"'),
        (GREY, {"log_var_bounds": (1.0, -10.0)}, "give the lower bound first"),
        (GREY, {"input_levels": (0.0, 0.0)}, "the second number, the standard deviation, must be above 0"),
        (GREY, {"bottleneck": 0.01}, "leaves blocks without channels"),
        (GREY, {"growth": 0.01}, "leaves a scale without channels"),
        (GREY, {"latents": ()}, "give at least one for each scale"),
    ],
)
def test_a_ladder_that_does_not_fit_is_refused(images, options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        built(images, **options)
