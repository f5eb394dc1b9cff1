from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from hebm.errors import DataError
from hebm.evaluation.frechet import Moments, Reference, frechet_distance, frechet_estimate, moments, standard_error
from hebm.evaluation.jackknife import Estimate, groups_of

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/ebm/closed_form.json").read_text())["metrics"]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_distance_is_the_closed_form():
    case = {name: torch.tensor(value, dtype=torch.float64) for name, value in VECTORS["frechet"].items()}
    found = frechet_distance(Moments(case["mu1"], case["cov1"]), Moments(case["mu2"], case["cov2"]))
    assert found == pytest.approx(float(case["value"]), rel=1e-10)


@pytest.mark.parametrize("rows", [500, 20], ids=["full rank", "singular covariance"])
def test_distance_is_torch_fidelitys(rows):
    first, second = normal(rows, 32), 0.3 + normal(rows, 32, seed=1) @ normal(32, 32, seed=2) / 6
    reference = fid_statistics_to_metric(fid_features_to_statistics(first), fid_features_to_statistics(second), False)
    found = frechet_distance(moments(first), moments(second))
    assert found == pytest.approx(reference["frechet_inception_distance"], rel=1e-5)


def test_distance_is_symmetric_and_zero_to_itself():
    a, b = moments(normal(100, 8)), moments(2 * normal(100, 8, seed=1))
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
    assert 0 <= frechet_distance(a, a) < 1e-9


def test_covariance_is_unbiased():
    features = normal(7, 3)
    assert np.allclose(moments(features).cov, np.cov(features.numpy(), rowvar=False))


def test_one_image_has_no_covariance():
    with pytest.raises(DataError, match=r"evaluate\.samples"):
        moments(normal(1, 3))


@pytest.mark.parametrize("shift", [0.0, 0.5], ids=["other covariance", "other mean too"])
def test_standard_error_is_the_spread_over_repeated_draws(shift):
    reference = moments(normal(5000, 4))
    repeats = [shift + 1.5 * normal(400, 4, seed=1 + i) for i in range(100)]
    spread = torch.tensor([frechet_distance(moments(draws), reference) for draws in repeats]).std()
    assert standard_error(repeats[0], reference) == pytest.approx(float(spread), rel=0.25)


def test_standard_error_of_singular_features_is_finite():
    assert 0 < standard_error(normal(20, 32), moments(normal(100, 32, seed=1))) < 100


def exactly_deleted(first, second, groups):
    """The estimate whose distances without each group are computed in full."""
    left = [(groups_of(len(first), groups) != g, groups_of(len(second), groups) != g) for g in range(groups)]
    found = [frechet_distance(moments(first[a]), moments(second[b])) for a, b in left]
    return Estimate(0.0, torch.tensor(found, dtype=torch.float64))


@pytest.mark.parametrize(("rows", "width"), [(600, 8), (300, 32), (110, 64)], ids=["many", "some", "few"])
def test_the_estimate_is_the_distance_and_its_error_that_of_distances_without_each_group(rows, width):
    data = normal(rows, width) @ normal(width, width, seed=2) / 6
    kinds = 0.2 + 1.2 * normal(rows + 50, width, seed=1) @ normal(width, width, seed=3) / 6, 0.95 * data
    for features in kinds:  # draws, and images that belong to those of the data
        found = frechet_estimate(features, Reference(data))
        assert found.value == pytest.approx(frechet_distance(moments(features), moments(data)), rel=1e-6)
        assert found.error == pytest.approx(exactly_deleted(features, data, 100).error, rel=0.15)


def test_the_error_of_an_estimate_is_the_spread_over_repeated_draws_of_both_sets():
    pairs = [(0.5 + 1.5 * normal(400, 4, seed=i), normal(400, 4, seed=100 + i)) for i in range(60)]
    found = [frechet_estimate(features, Reference(data)) for features, data in pairs]
    spread = torch.tensor([estimate.value for estimate in found]).std()
    assert found[0].error == pytest.approx(float(spread), rel=0.25)


def test_an_estimate_of_singular_features_is_finite_and_one_of_two_images_has_no_error():
    assert 0 < frechet_estimate(normal(20, 32), Reference(normal(30, 32, seed=1))).error < 100
    assert frechet_estimate(normal(2, 3), Reference(normal(2, 3, seed=1))).error is None
