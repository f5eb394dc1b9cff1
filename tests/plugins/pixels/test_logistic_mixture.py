"""The mixture of discretised logistics is the published one, in hebm's range of pixels."""

import pytest
import torch
from unit_vectors import assert_parity, unit_vectors

from hebm.errors import ConfigError
from hebm.noise import Noise
from hebm_plugins.pixels.logistic_mixture import LogisticMixturePixels

CASES = [(2, 4), (10, 5), (10, 8)]


@pytest.fixture(params=CASES, ids=lambda case: f"M{case[0]}-b{case[1]}")
def case(request):
    """(distribution, its bits, its vectors by short name)."""
    mixtures, bits = request.param
    prefix = f"dmol.m{mixtures}.b{bits}."
    vectors = {k.removeprefix(prefix): v for k, v in unit_vectors("distributions").items() if k.startswith(prefix)}
    return LogisticMixturePixels(vectors["logits"].double(), bits), bits, vectors


def image(vectors, bits):
    return 2 * vectors["levels"].double() / (2**bits - 1) - 1


def official(x):
    return (x + 1) / 2


def test_log_probability_of_every_pixel_is_the_published_one(case):
    pixels, bits, vectors = case
    assert_parity(pixels.log_prob_map(image(vectors, bits)), vectors["log_prob"])
    assert_parity(pixels.log_prob(image(vectors, bits)), vectors["log_prob"].sum((1, 2)))


def test_mean_is_the_published_one(case):
    pixels, _, vectors = case
    assert_parity(official(pixels.mean), vectors["mean"])


@pytest.mark.parametrize("temperature", [0.7, 1.0])
def test_samples_from_the_same_uniforms_are_the_published_ones(case, temperature):
    pixels, _, vectors = case
    found = pixels.from_uniforms(vectors["u_mix"].double(), vectors["u_logistic"].double(), temperature)
    assert_parity(official(found), vectors[f"sample_t{temperature}"])


def test_what_is_scored_is_reduced_to_its_bits_first():
    pixels = LogisticMixturePixels(Noise(0, "p", dtype=torch.float64).normal(2, 20, 3, 3), bits=5)
    levels = Noise(0, "x").integers(32, 2, 3, 3, 3)
    lowest, highest = ((8 * levels + k).double() / 127.5 - 1 for k in (0, 7))
    assert torch.equal(pixels.log_prob(lowest), pixels.log_prob(highest))


@pytest.mark.parametrize("bits", [1, 3])
def test_probabilities_of_all_colours_sum_to_one(bits):
    levels = 2 * torch.arange(2**bits, dtype=torch.float64) / (2**bits - 1) - 1
    colours = torch.cartesian_prod(levels, levels, levels)
    parameters = Noise(0, "p", dtype=torch.float64).normal(1, 20, 1, 1).expand(len(colours), -1, -1, -1)
    log_p = LogisticMixturePixels(parameters, bits).log_prob(colours[:, :, None, None])
    # masses below 1e-5 are density times width
    assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_draws_are_derived_and_have_the_mean_of_one_component():
    parameters = torch.zeros(4096, 10, 1, 1, dtype=torch.float64)
    parameters[:, 1], parameters[:, 4], parameters[:, 7] = 0.3, -0.2, 0.1  # means of red, green, blue
    parameters[:, 2::3] = -4.0  # log scales
    pixels = LogisticMixturePixels(parameters)
    noise = Noise(0, "draw", dtype=torch.float64)
    found = pixels.draw(noise)
    assert torch.equal(found, pixels.draw(Noise(0, "draw", dtype=torch.float64)))
    assert found.abs().max() <= 1
    spread = 3.14 / 3**0.5 * torch.tensor(-4.0).exp().item() / 64
    assert (found.mean(0) - pixels.mean[0]).abs().max().item() < 4 * spread


def test_extreme_parameters_and_pixels_give_finite_scores_and_gradients():
    parameters = 1e3 * Noise(0, "p").normal(4, 20, 3, 3)
    parameters.requires_grad_()
    x = torch.tensor([-1.0, 1.0, 0.0, 0.5]).reshape(4, 1, 1, 1).expand(4, 3, 3, 3)
    score = LogisticMixturePixels(parameters).log_prob(x).sum()
    score.backward()
    assert score.isfinite()
    assert parameters.grad.isfinite().all()


def test_parameters_of_an_autocast_network_are_scored_in_float32():
    parameters = Noise(0, "p").normal(2, 20, 3, 3).bfloat16()
    pixels = LogisticMixturePixels(parameters)
    assert pixels.log_prob(torch.zeros(2, 3, 3, 3)).dtype == torch.float32
    assert pixels.mean.dtype == torch.float32


def test_shapes_and_scale_are_stated():
    pixels = LogisticMixturePixels(torch.zeros(2, 20, 4, 6), bits=5)
    assert (pixels.batch_shape, pixels.event_shape) == ((2,), (3, 4, 6))
    assert "5-bit" in pixels.scale


def test_channels_that_are_no_mixture_are_refused():
    with pytest.raises(ConfigError, match="10 M"):
        LogisticMixturePixels(torch.zeros(2, 6, 4, 4))
