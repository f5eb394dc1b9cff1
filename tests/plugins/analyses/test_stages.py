import csv
import math

import pytest
import torch
from learned import evaluation, every_file_is_there, finite

from hebm_plugins.analyses.stages import BASE, Stages
from hebm_plugins.samplers.ula import ULA

SMALL = Stages(images=128, test=60, columns=3)


@pytest.mark.parametrize(
    ("prior", "steps"),
    [
        ("multi-stage", ["stage 1", "stage 2"]),
        ("smc", ["stage 1", "stage 2"]),
        ("diffusion", ["level 2", "level 1", "level 0"]),
    ],
)
def test_there_is_a_distance_after_each_step_and_the_last_is_the_priors_own(tmp_path, prior, steps):
    made = evaluation(tmp_path, prior)
    section = SMALL.run(made, tmp_path)
    fd = section.numbers["fd"]
    assert list(fd) == [BASE, *steps]
    assert fd[BASE] == pytest.approx(made.distance("gaussian"))
    assert fd[steps[-1]] == pytest.approx(made.distance("prior"))
    assert finite(section)
    assert every_file_is_there(section, tmp_path)
    with open(tmp_path / "distances.csv") as file:
        assert [row["after"] for row in csv.DictReader(file)] == list(fd)


def test_a_ratio_of_1_tells_nothing_apart(tmp_path):
    made = evaluation(tmp_path, "multi-stage")
    for parameter in made.prior.ratios.parameters():
        parameter.data.zero_()
    ratios = SMALL.run(made, tmp_path).numbers["ratios"]
    assert list(ratios) == ["stage 1", "stage 2"]
    for found in ratios.values():
        assert found["bce"] == pytest.approx(2 * math.log(2))
        assert found["auroc"] == pytest.approx(0.5)
        assert found["bce_layer_0"] == found["bce_layer_1"] == pytest.approx(2 * math.log(2))


def test_a_diffusion_prior_has_levels_and_no_ratios(tmp_path):
    assert SMALL.run(evaluation(tmp_path, "diffusion"), tmp_path).numbers["ratios"] == {}


def test_a_chain_that_diverges_leaves_its_distance_out_and_says_so(tmp_path):
    made = evaluation(tmp_path, "multi-stage")
    made.prior.factors = dict
    made.prior.sampler = ULA(steps=300, step_size=50.0)
    section = Stages(images=128, test=60, columns=3).run(made, tmp_path)
    assert section.numbers["fd"]["stage 1"] is None
    assert math.isfinite(section.numbers["fd"][BASE])
    assert "chains diverge" in section.text[1]


@pytest.mark.parametrize("prior", ["root", "joint"])
def test_a_prior_that_is_drawn_at_once_is_refused(tmp_path, prior):
    assert "no stages" in SMALL.unsupported(evaluation(tmp_path, prior))


def test_the_effective_sample_size_stands_in_the_metrics(tmp_path):
    made = evaluation(tmp_path, "smc")
    made.distance("prior")
    assert set(made.drawing()) == {"ess"}
    assert 0.25 <= made.drawing()["ess"] <= 1
    assert evaluation(tmp_path, "joint").drawing() == {}


def test_an_evaluation_of_another_prior_shares_what_does_not_change(tmp_path):
    made = evaluation(tmp_path, "multi-stage")
    gaussian = made.features("gaussian")
    beside = made.beside(made.prior.milestones()["stage 1"])
    assert beside.features("gaussian") is gaussian
    assert not torch.equal(beside.features("prior"), made.features("prior"))
    assert len(made.beside(samples=64).features("gaussian")) == 64
    assert beside.extractors is made.extractors
