"""Pixels of an array in a file are read a few rows at a time, and equal those of the whole array."""

import pickle

import numpy as np
import pytest
import torch

from hebm.config.settings import RunSettings
from hebm.data import file_facts
from hebm.data.array_files import mapped_array
from hebm.data.stored_pixels import storing_pixels
from hebm_plugins.datasets import mapped_pixels
from hebm_plugins.datasets.arrays import Arrays
from hebm_plugins.datasets.mapped_pixels import MappedPixels

BYTES = np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3), dtype=np.uint8)


def saved(path, array):
    np.save(path / "a.npy", array)
    return path / "a.npy"


@pytest.mark.parametrize(
    ("array", "layout", "expected"),
    [
        (BYTES, "nhwc", BYTES.transpose(0, 3, 1, 2)),
        (BYTES[..., 0], "nhw", BYTES[:, None, :, :, 0]),
        (BYTES.transpose(0, 3, 1, 2), "nchw", BYTES.transpose(0, 3, 1, 2)),
        (BYTES.astype(">f4"), "nhwc", BYTES.transpose(0, 3, 1, 2).astype(np.float32)),
        (BYTES.astype(np.uint16), "nhwc", BYTES.transpose(0, 3, 1, 2).astype(np.int64)),
    ],
    ids=["nhwc", "nhw", "nchw", "swapped bytes", "uint16"],
)
def test_rows_are_those_of_the_array_in_a_type_of_torch(array, layout, expected, tmp_path, monkeypatch):
    path = saved(tmp_path, array)
    pixels = MappedPixels(mapped_array(path), layout, path, None)
    assert pixels.shape == expected.shape
    index = torch.tensor([3, 0, 3])
    read = pixels[index]
    assert read.dtype == pixels.dtype
    np.testing.assert_array_equal(read.numpy(), expected[index])
    monkeypatch.setattr(mapped_pixels, "CHUNK", 130)
    assert pixels.span() == (float(expected.min()), float(expected.max()))


def test_a_value_that_is_none_is_found_in_any_part(tmp_path, monkeypatch):
    values = BYTES.astype(np.float32)
    values[7, 1, 1, 1] = np.nan
    path = saved(tmp_path, values)
    monkeypatch.setattr(mapped_pixels, "CHUNK", 130)
    assert all(np.isnan(value) for value in MappedPixels(mapped_array(path), "nhwc", path, None).span())


def test_a_mapped_array_is_pickled_as_its_place(tmp_path):
    path = saved(tmp_path, np.tile(BYTES, (50, 1, 1, 1)))
    pixels = MappedPixels(mapped_array(path), "nhwc", path, None)
    pickled = pickle.dumps(pixels)
    assert len(pickled) < 1000
    assert torch.equal(pickle.loads(pickled)[torch.arange(5)], pixels[torch.arange(5)])
    held = MappedPixels(BYTES, "nhwc", path, None)
    assert torch.equal(pickle.loads(pickle.dumps(held))[torch.arange(5)], held[torch.arange(5)])


def test_later_commands_read_no_values_of_a_large_file(tmp_path, monkeypatch):
    monkeypatch.setattr(file_facts, "SMALLEST", 1)
    recipe, run = Arrays(train=str(saved(tmp_path, BYTES))), RunSettings(cache_folder=str(tmp_path / "cache"))

    def fingerprints():
        with storing_pixels(run):
            return [recipe.load(split).fingerprint() for split in ("train", "test")]

    first = fingerprints()
    assert first == [recipe.load(split).fingerprint() for split in ("train", "test")]
    monkeypatch.setattr(MappedPixels, "span", None)
    monkeypatch.setattr("hebm_plugins.datasets.arrays.MappedImages._hash", None)
    assert fingerprints() == first
    np.save(tmp_path / "a.npy", 255 - BYTES)
    with pytest.raises(TypeError):
        fingerprints()
