from __future__ import annotations

import csv
from itertools import pairwise

import pytest
import torch
from tiny_models import TinyData, tiny_evaluation

from hebm import registry
from hebm.testing.evaluations import StandIn
from hebm_plugins.analyses.sanity import DROPPED, TEMPERATURE, Sanity, Step, _Parts, rewarded
from hebm_plugins.datasets.digits import Digits
from hebm_plugins.extractors import classifier


@pytest.mark.parametrize("extractor", ["classifier", pytest.param("efficientnet-lite0", marks=pytest.mark.slow)])
def test_the_distance_rises_with_every_damage_of_digits(tmp_path, extractor):
    evaluation = tiny_evaluation(tmp_path, data=Digits(), extractors=(registry.find("hebm_extractors", extractor)(),))
    (tmp_path / "out").mkdir()
    section = Sanity(noise=(0.2, 0.4), temperatures=()).run(evaluation, tmp_path / "out")
    assert section.numbers["rewarded"] == {extractor: []}
    rows = list(csv.DictReader((tmp_path / "out" / "sanity.csv").open()))
    for damage in ("blur", "noise", "contrast", DROPPED):
        fd = [float(row["fd"]) for row in rows if row["damage"] == damage]
        assert all(after > 0.95 * before for before, after in pairwise(fd)), damage
        assert fd[-1] > 1.4 * fd[0], damage


def step(strength, fd, error=0.1, damage="blur"):
    return Step(damage, strength, fd, error)


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        ([step(0, 1), step(1, 2), step(2, 3)], []),
        ([step(0, 1), step(1, 2), step(2, 1.5)], ["blur 2"]),
        ([step(0, 1), step(1, 0.9), step(2, 3)], []),  # within two standard errors
        ([step(0, 1), step(1, 2), step(0, 0.1, damage="noise")], []),
        ([step(0, 1), step(1, None, None), step(2, 0.1)], []),
    ],
)
def test_a_fall_beyond_the_error_is_named(steps, named):
    assert rewarded(steps) == named


def test_classes_are_dropped_with_the_same_number_of_images_left(tmp_path):
    parts = _Parts(tiny_evaluation(tmp_path, data=Digits()), 0.6)
    labels = parts.images.labels
    sizes = {len(parts.other(share)) for share in (0.0, 0.2, 0.6)}
    assert sizes == {parts.count}
    assert set(labels[parts.other(0.2)].tolist()) == set(range(2, 10))
    assert not set(parts.other().tolist()) & set(parts.whole.tolist())


def test_the_darkest_images_are_dropped_where_there_are_no_labels(tmp_path):
    evaluation = tiny_evaluation(tmp_path, samples=150)
    evaluation.splits["train"].labels, evaluation.splits["train"].classes = None, ()
    parts = _Parts(evaluation, 0.5)
    means = [torch.cat(list(parts.read("", parts.other(share)))).flatten(1).mean(1) for share in (0.0, 0.5)]
    assert means[1].min() > means[0].median() - 1e-6


def test_temperatures_of_inferred_latents_are_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(classifier, "_ROUNDS", 1)
    (tmp_path / "out").mkdir()
    evaluation = tiny_evaluation(tmp_path, data=TinyData(), samples=100)
    Sanity(blur=(), noise=(), contrast=(), dropped=(), temperatures=(2.0, 4.0)).run(evaluation, tmp_path / "out")
    rows = [row for row in csv.DictReader((tmp_path / "out" / "sanity.csv").open()) if row["damage"] == TEMPERATURE]
    assert [float(row["strength"]) for row in rows] == [0, 1, 3]
    fd = [float(row["fd"]) for row in rows]
    assert fd == sorted(fd)


def test_numbers_do_not_depend_on_the_batch_size(tmp_path):
    found = []
    for size in (64, 256):
        evaluation = tiny_evaluation(tmp_path, samples=150, batch_size=size)
        evaluation.extractors["classifier"] = StandIn("classifier", 2)
        folder = tmp_path / str(size)
        folder.mkdir()
        Sanity(temperatures=(2.0,)).run(evaluation, folder)
        found.append([float(row["fd"]) for row in csv.DictReader((folder / "sanity.csv").open())])
    assert found[0] == pytest.approx(found[1], rel=1e-4)
