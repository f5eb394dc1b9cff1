"""Precision, recall, density and coverage: against brute force, and of sets whose values are known."""

import pytest
import torch
from tiny_models import EXTRACTORS, RootPrior, numbers, plan_of, tiny_evaluation

from hebm.errors import ConfigError
from hebm.latents import LatentLayout
from hebm.noise import Noise
from hebm_plugins import neighbours
from hebm_plugins.metrics.prdc import PRDC
from hebm_plugins.neighbours import squared_radii


def normal(n, name, shift=0.0, features=3):
    return (Noise(0, name).normal(n, features) + shift).double()


def counts(real, drawn, **options):
    metric = PRDC(**options)
    return metric.counts(real, squared_radii(real, max(metric.k, metric.k_precision)), drawn)


def means(real, drawn, **options):
    return [float(each.mean()) for each in counts(real, drawn, **options)]


def by_definition(x, y, k, k_precision):
    def radius(points, i, k):
        return sorted(float((points[i] - other).norm()) for other in points)[k]

    inside = [[float((b - a).norm()) <= radius(x, i, k) for b in y] for i, a in enumerate(x)]
    narrow = [[float((b - a).norm()) <= radius(x, i, k_precision) for b in y] for i, a in enumerate(x)]
    around = [[float((b - a).norm()) <= radius(y, j, k_precision) for j, b in enumerate(y)] for a in x]
    precision = sum(any(row[j] for row in narrow) for j in range(len(y))) / len(y)
    recall = sum(map(any, around)) / len(x)
    density = sum(map(sum, inside)) / (k * len(y))
    return [precision, recall, density, sum(map(any, inside)) / len(x)]


@pytest.mark.parametrize(("k", "k_precision"), [(5, 3), (2, 4)])
def test_the_measures_are_their_definitions_in_blocks_of_any_size(k, k_precision, monkeypatch):
    x, y = normal(25, "x"), normal(25, "y", shift=0.7)
    wanted = by_definition(x, y, k, k_precision)
    assert 0 < min(wanted[:2])
    assert max(wanted[:2]) < 1
    for block in (1, 100, 10**6):
        monkeypatch.setattr(neighbours, "_BLOCK", block)
        assert means(x, y, k=k, k_precision=k_precision) == pytest.approx(wanted)


def test_identical_sets_have_every_point_and_a_density_of_one_and_a_kth():
    x = normal(200, "x")
    assert means(x, x.clone()) == [1.0, 1.0, pytest.approx(1 + 1 / 5), 1.0]


def test_two_samples_of_one_law_have_density_1_and_coverage_1_less_a_half_to_the_k():
    _, _, density, coverage = means(normal(2000, "x"), normal(2000, "y"))
    assert density == pytest.approx(1, abs=0.06)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.015)


def test_draws_of_one_of_two_modes_are_precise_and_miss_half_of_the_data():
    x = torch.cat([normal(300, "x"), normal(300, "other", shift=20.0)])
    precision, recall, density, coverage = means(x, normal(600, "y"))
    assert precision > 0.9
    assert density > 0.9
    assert recall < 0.55
    assert coverage < 0.55


def test_outliers_of_the_data_inflate_precision_but_neither_density_nor_coverage():
    inliers, far = normal(300, "x"), normal(300, "y", shift=6.0)
    outliers = torch.stack([torch.full((3,), c).double() for c in (10.0, 14.0, 18.0, 22.0)])
    without, with_them = means(inliers, far), means(torch.cat([inliers[:-4], outliers]), far)
    assert without[0] < 0.1 < 0.9 < with_them[0]
    assert with_them[2] < 0.05 * 300 / 5
    assert with_them[3] < 0.05


def test_errors_are_the_deviations_over_draws_with_the_balls_given():
    x = normal(100, "x")
    several = [counts(x, normal(100, f"y{i}", shift=0.7)) for i in range(200)]
    for measure in ("precision", "density"):
        values = [getattr(each, measure) for each in several]
        error = torch.stack([each.std() / 10 for each in values]).mean()
        assert torch.stack([each.mean() for each in values]).std() == pytest.approx(float(error), rel=0.2)


def test_a_prior_that_moves_its_draws_to_the_data_is_better_than_the_gaussian():
    measurements = PRDC().compute(tiny_evaluation(EXTRACTORS))
    found = numbers(measurements)
    for measure in ("precision", "recall", "density", "coverage"):
        assert found[f"{measure}.prior"] > found[f"{measure}.gaussian"]
    assert {m.name: (m.error is None, m.conditions["k"]) for m in measurements} == {
        "precision": (False, 3),
        "recall": (False, 3),
        "density": (False, 5),
        "coverage": (True, 5),
    }


def test_as_many_draws_are_used_as_the_split_has_images():
    few, more = (
        numbers(PRDC().compute(tiny_evaluation(EXTRACTORS, RootPrior(LatentLayout(((3,), (6,)))), samples=n)))
        for n in (400, 500)
    )
    assert few == more


def test_fewer_images_than_neighbours_are_refused_before_training():
    PRDC().check(plan_of(tiny_evaluation(EXTRACTORS, samples=6)))
    with pytest.raises(ConfigError, match=r"k = 5 neighbours .* there are 5: use more images"):
        PRDC().check(plan_of(tiny_evaluation(EXTRACTORS, samples=5)))
    with pytest.raises(ConfigError, match="k_precision = 400"):
        PRDC(k_precision=400).check(plan_of(tiny_evaluation(EXTRACTORS)))
