"""OMNIGLOT of the IWAE paper from a small file in its format."""

import numpy as np
import pytest
import torch
from scipy.io import savemat

from hebm.errors import DataError
from hebm_plugins.datasets.omniglot_iwae import OmniglotIWAE

RNG = np.random.default_rng(0)


def write(path, **changed):
    """Pixels in MATLAB's order: columns of an image one after another. Returns (levels, alphabets) by split."""
    path.parent.mkdir(parents=True, exist_ok=True)
    matrices, sets = {}, {}
    for split, n, images, labels in (("train", 12, "data", "target"), ("test", 5, "testdata", "testtarget")):
        levels, alphabets = RNG.integers(0, 256, (n, 28, 28)), RNG.integers(0, 50, n)
        matrices[images] = (levels / 255 + 1e-6).transpose(2, 1, 0).reshape(784, n)
        matrices[labels] = np.eye(50)[:, alphabets]
        sets[split] = levels, alphabets
    savemat(path, {**matrices, **changed})
    return sets


@pytest.mark.parametrize("given", [True, False])
def test_images_stand_upright_and_have_the_files_levels_and_alphabets(tmp_path, given):
    path = tmp_path / ("copy.mat" if given else "omniglot-iwae/chardata.mat")
    sets = write(path)
    recipe = OmniglotIWAE(root=str(tmp_path), file=str(path) if given else None)
    for split, (levels, alphabets) in sets.items():
        images = recipe.load(split)
        x = images.read(torch.arange(len(images)))
        assert torch.equal(x, torch.from_numpy(levels)[:, None].float() / 127.5 - 1)
        assert images.labels.tolist() == alphabets.tolist()
        assert len(images.classes) == 50


def test_levels_are_rounded_down_as_published(tmp_path):
    levels = np.zeros((784, 12))
    levels[0] = 0.999
    write(tmp_path / "a.mat", data=levels)
    x = OmniglotIWAE(file=str(tmp_path / "a.mat")).load("train").read(torch.arange(12))
    assert float(x[0, 0, 0, 0]) == pytest.approx(254 / 127.5 - 1)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"data": np.zeros((784, 3))}, r"data has shape \(784, 3\).*target \(50, 12\).*expected \(784, N\)"),
        ({"data": np.zeros((100, 12))}, r"data has shape \(100, 12\)"),
    ],
)
def test_matrices_of_other_shapes_are_refused(tmp_path, changed, match):
    write(tmp_path / "a.mat", **changed)
    with pytest.raises(DataError, match=match):
        OmniglotIWAE(file=str(tmp_path / "a.mat")).load("train")


def test_a_file_without_its_matrices_is_refused(tmp_path):
    savemat(tmp_path / "a.mat", {"data": np.zeros((784, 3))})
    with pytest.raises(DataError, match=r"a\.mat: has no matrix target; delete it, or set data\.file to a copy"):
        OmniglotIWAE(file=str(tmp_path / "a.mat")).load("train")


def test_a_file_that_was_cut_off_is_refused_at_every_length(tmp_path):
    write(tmp_path / "whole.mat")
    whole = (tmp_path / "whole.mat").read_bytes()
    for length in range(0, len(whole), len(whole) // 40):
        (tmp_path / "a.mat").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"a\.mat"):
            OmniglotIWAE(file=str(tmp_path / "a.mat"), download=False).load("test")


@pytest.mark.parametrize("content", [None, b"", b"no matrix at all" * 20])
def test_a_file_that_is_missing_or_broken_is_a_clear_error(tmp_path, content):
    path = tmp_path / "a.mat"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.mat"):
        OmniglotIWAE(file=str(path), download=False).load("train")
