"""Bit reduction keeps whole levels of the 8-bit images that were read."""

import pytest
import torch
from unit_vectors import unit_vectors

from hebm_plugins.pixels.bits import reduce_bits

LEVELS = torch.arange(256)


@pytest.mark.parametrize("bits", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_are_the_published_ones(bits, dtype):
    found = reduce_bits(2 * LEVELS.to(dtype) / 255 - 1, bits)
    expected = 2 * unit_vectors("distributions")[f"bits.{bits}"].double() - 1
    assert (found.double() - expected).abs().max() < 2e-7
    assert torch.equal(((found + 1) / 2 * (2**bits - 1)).round().long(), LEVELS // 2 ** (8 - bits))


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_twice_is_once(bits, dtype):
    once = reduce_bits(torch.linspace(-1, 1, 1001, dtype=dtype), bits)
    assert torch.equal(reduce_bits(once, bits), once)
    assert len(once.unique()) == 2**bits


def test_images_as_they_are_read_lose_no_level_to_rounding():
    read = LEVELS.float() / 127.5 - 1
    found = reduce_bits(read, 5)
    assert torch.equal(((found + 1) * 15.5).round().long(), LEVELS // 8)
    assert (reduce_bits(read, 8) - read).abs().max() < 2e-7


def test_half_precision_images_are_reduced_in_float32():
    found = reduce_bits(torch.tensor([-1.0, 1.0], dtype=torch.bfloat16), 8)
    assert found.dtype == torch.float32
    assert found.tolist() == [-1.0, 1.0]
