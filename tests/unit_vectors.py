"""The test vectors of NVAE: arrays by name, and how close a float64 computation must come to them."""

from functools import lru_cache
from pathlib import Path

from safetensors.torch import load_file

FOLDER = Path(__file__).parent / "vectors" / "nvae"


@lru_cache
def unit_vectors(name):
    return load_file(FOLDER / "unit" / f"{name}.safetensors")


def assert_parity(found, expected, tolerance=1e-9):
    """|found − expected| ≤ tolerance (1 + |expected|), everywhere and of the same shape."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    excess = (found - expected).abs() / (1 + expected.abs())
    assert excess.max().item() <= tolerance
