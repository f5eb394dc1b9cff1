import csv
import math

import pytest
import torch
from learned import evaluation, every_file_is_there, finite

from hebm.evaluation.frechet import frechet_distance, moments
from hebm.interfaces import ROOT, Request
from hebm.pixel_levels import to_pixels
from hebm_plugins.analyses.stages import Stages
from hebm_plugins.samplers.ula import ULA

SMALL = Stages(images=128, test=60, columns=3)


def distance_of_the_root(made):
    """FD of the root's draws in the walk that ends at the evaluation's draws."""
    walks = [dict(made.model.walk(64, made.noise("prior", start))) for start in (0, 64)]
    images = torch.cat([made.model.images(walked[ROOT]) for walked in walks])
    features = made.extractor()(to_pixels(images))["features"]
    return frechet_distance(moments(features), moments(made.features("data")))


@pytest.mark.parametrize(
    ("prior", "steps"),
    [
        ("multi-stage", ["stage 1", "stage 2"]),
        ("progressive", ["stage 1", "stage 2"]),
        ("started", ["start stage 1", "stage 1", "start stage 2", "stage 2"]),
        ("smc", ["stage 1", "stage 2"]),
        ("diffusion", ["level 2", "level 1", "level 0"]),
        ("sir", ["layer 0", "layer 1"]),
    ],
)
def test_there_is_a_distance_after_each_transition_and_the_last_is_the_priors_own(tmp_path, prior, steps):
    made = evaluation(prior)
    section = SMALL.run(made, tmp_path)
    fd = section.numbers["fd"]
    assert list(fd) == list(section.numbers["seconds"]) == [ROOT, *steps]
    assert section.pictures[0].caption == f"Columns: {', '.join(fd)}."
    assert fd[ROOT] == pytest.approx(distance_of_the_root(made))
    assert fd[steps[-1]] == pytest.approx(made.distance("prior"))
    assert finite(section)
    assert every_file_is_there(section, tmp_path)
    with open(tmp_path / "distances.csv") as file:
        assert [row["after"] for row in csv.DictReader(file)] == list(fd)


def test_a_ratio_of_1_tells_nothing_apart(tmp_path):
    made = evaluation("multi-stage")
    for parameter in made.model.prior.ratios.parameters():
        parameter.data.zero_()
    ratios = SMALL.run(made, tmp_path).numbers["ratios"]
    assert list(ratios) == ["stage 1", "stage 2"]
    for found in ratios.values():
        assert found["bce"] == pytest.approx(2 * math.log(2))
        assert found["auroc"] == pytest.approx(0.5)
        assert found["bce_layer_0"] == found["bce_layer_1"] == pytest.approx(2 * math.log(2))


def test_a_ratio_is_tried_on_draws_of_the_stage_before_and_not_on_the_start_of_its_own_chain(tmp_path):
    with_starts, without = (
        SMALL.run(evaluation(prior), tmp_path).numbers["ratios"] for prior in ("started", "multi-stage")
    )
    assert list(with_starts) == list(without) == ["stage 1", "stage 2"]
    assert with_starts["stage 1"] == without["stage 1"]


def test_a_diffusion_prior_has_levels_and_no_ratios(tmp_path):
    assert SMALL.run(evaluation("diffusion"), tmp_path).numbers["ratios"] == {}


def test_a_chain_that_diverges_leaves_its_distance_out_and_says_so(tmp_path):
    made = evaluation("multi-stage")
    made.model.prior.sampler = ULA(steps=300, step_size=50.0)
    section = SMALL.run(made, tmp_path)
    assert section.numbers["fd"]["stage 1"] is None
    assert math.isfinite(section.numbers["fd"][ROOT])
    assert "chains diverge" in section.text[1]
    assert list(section.numbers["ratios"]) == ["stage 1"]  # told from draws of the root, which are finite


@pytest.mark.parametrize("prior", ["root", "joint"])
def test_a_prior_of_fewer_than_two_transitions_is_refused(prior):
    assert "no stages" in SMALL.unsupported(evaluation(prior))


def test_a_draw_that_stops_behind_a_transition_has_the_stages_up_to_it(tmp_path):
    made = evaluation("diffusion", request=Request(after="level 1"))
    assert list(SMALL.run(made, tmp_path).numbers["fd"]) == [ROOT, "level 2", "level 1"]
    assert "no stages" in SMALL.unsupported(evaluation("diffusion", request=Request(after="level 2")))
    assert "no stages" in SMALL.unsupported(evaluation("diffusion", request=Request(after=ROOT)))


def test_the_effective_sample_size_stands_in_the_metrics():
    made = evaluation("smc")
    made.distance("prior")
    assert set(made.diagnostics()) == {"ess"}
    assert 0.25 <= made.diagnostics()["ess"] <= 1
    assert evaluation("joint").diagnostics() == {}
