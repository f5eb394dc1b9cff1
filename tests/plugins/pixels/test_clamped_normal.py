"""The Gaussian decoder is the published one, in both variants of its score."""

import pytest
import torch
from unit_vectors import assert_parity, unit_vectors

from hebm.noise import Noise
from hebm_plugins.pixels.bits import reduce_bits
from hebm_plugins.pixels.clamped_normal import ClampedNormalPixels


@pytest.fixture(scope="module")
def vectors():
    prefix = "normaldec."
    return {
        k.removeprefix(prefix): v.double() for k, v in unit_vectors("distributions").items() if k.startswith(prefix)
    }


@pytest.mark.parametrize(("floor", "name"), [(None, "log_prob"), (-2.0, "vaebm_variant_log_prob")])
def test_log_density_is_the_published_one(vectors, floor, name):
    pixels, x = ClampedNormalPixels(vectors["logits"], floor), 2 * vectors["x"] - 1
    assert_parity(pixels.log_prob_map(x), vectors[name].sum(1))
    assert_parity(pixels.log_prob(x), vectors[name].sum((1, 2, 3)))


def test_the_two_variants_differ(vectors):
    assert not torch.allclose(vectors["log_prob"], vectors["vaebm_variant_log_prob"])


def test_mean_and_deviation_are_the_published_ones(vectors):
    pixels = ClampedNormalPixels(vectors["logits"], -2.0)
    assert_parity(pixels.normal.mean, vectors["mu"])
    assert_parity(pixels.normal.std, vectors["sigma"])
    assert_parity(pixels.mean, vectors["mu"].clamp(-1, 1))


@pytest.mark.parametrize("floor", [None, -2.0])
def test_samples_from_the_same_normals_are_the_published_ones_without_the_floor(vectors, floor):
    found = ClampedNormalPixels(vectors["logits"], floor).from_normals(vectors["eps"])
    assert_parity((found + 1) / 2, vectors["sample"])


def test_what_is_scored_is_reduced_if_bits_are_given(vectors):
    x = 2 * vectors["x"] - 1
    reduced = ClampedNormalPixels(vectors["logits"], bits=5).log_prob(x)
    assert torch.equal(reduced, ClampedNormalPixels(vectors["logits"]).log_prob(reduce_bits(x, 5)))
    assert not torch.allclose(reduced, ClampedNormalPixels(vectors["logits"]).log_prob(x))


def test_draws_are_derived_and_inside_the_range(vectors):
    pixels = ClampedNormalPixels(vectors["logits"])
    first, again = (pixels.draw(Noise(0, "draw", dtype=torch.float64)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.abs().max() <= 1


def test_shapes_and_scale_are_stated():
    pixels = ClampedNormalPixels(torch.zeros(2, 6, 4, 5, dtype=torch.bfloat16))
    assert (pixels.batch_shape, pixels.event_shape) == ((2,), (3, 4, 5))
    assert pixels.log_prob(torch.zeros(2, 3, 4, 5)).dtype == torch.float32
    assert "continuous" in pixels.scale
