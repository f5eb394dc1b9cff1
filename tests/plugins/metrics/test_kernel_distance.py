"""The kernel distance: against torch-fidelity's KID, and unbiased."""

import pytest
import torch
from tiny_models import tiny_evaluation
from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

from hebm.evaluation.kinds import DATA, PRIOR
from hebm.noise import Noise
from hebm.testing.evaluations import StandIn
from hebm_plugins.metrics import distances
from hebm_plugins.metrics import kernel_distance as kernel_distance_module
from hebm_plugins.metrics.kernel_distance import kernel_distance


def features(name, n, shift=0.0):
    return Noise(0, name).normal(n, 5) + shift


def test_it_is_torch_fidelitys_kid_over_one_subset_of_all_images():
    x, y = features("x", 60, 0.3), features("y", 60)
    kid = kid_features_to_metric(x, y, kid_subsets=1, kid_subset_size=60, verbose=False)[KEY_METRIC_KID_MEAN]
    assert kernel_distance(x, y).value == pytest.approx(kid, rel=1e-5)


def test_of_two_samples_of_one_law_it_is_zero_on_average_and_its_error_is_its_spread():
    same = torch.tensor([kernel_distance(features(f"x{i}", 40), features(f"y{i}", 70)).value for i in range(200)])
    assert abs(same.mean()) < 5 * same.std() / 200**0.5
    apart = [kernel_distance(features(f"x{i}", 100, 0.7), features(f"y{i}", 100)) for i in range(200)]
    spread = torch.tensor([each.value for each in apart]).std()
    assert torch.tensor([each.error for each in apart]).mean() == pytest.approx(spread, rel=0.25)


def test_it_is_measured_next_to_fd_where_images_are_few(tmp_path, monkeypatch):
    evaluation = tiny_evaluation(tmp_path, samples=40)
    monkeypatch.setattr("hebm_plugins.extractors.classifier._ROUNDS", 1)
    found = distances.FrechetDistance().compute(evaluation)
    kernel = {item.kind: item for item in found if item.name == "kernel-distance"}
    assert set(kernel) == set(evaluation.kinds)
    assert kernel[PRIOR].extractor == "classifier"
    many = distances.FrechetDistance().compute(evaluation.measured_on(300))
    assert {item.name for item in many} == {"fd"}


def test_where_there_are_more_images_than_are_compared_every_part_of_the_data_counts(tmp_path, monkeypatch):
    """Data may be sorted by class: the first images alone would be of the first classes."""
    monkeypatch.setattr(kernel_distance_module, "MOST", 10)
    evaluation = tiny_evaluation(tmp_path, samples=40)
    evaluation.extractors["classifier"] = StandIn("classifier", 2)
    found = kernel_distance_module.measured(evaluation, PRIOR, "classifier")
    x, y = (evaluation.features(kind)[::4] for kind in (PRIOR, DATA))
    assert found.value == kernel_distance(x, y).value
    assert found.value != kernel_distance(evaluation.features(PRIOR)[:10], evaluation.features(DATA)[:10]).value
