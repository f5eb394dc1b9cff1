import csv

import attrs
import pytest
import torch
from learned import evaluation, every_file_is_there, finite

from hebm.analysis.section import read_section
from hebm.interfaces import ROOT, Request
from hebm_plugins.analyses.clocks import clock_of
from hebm_plugins.analyses.cost import Cost, Point, recommendation
from hebm_plugins.analyses.evaluation_counts import Evaluations, evaluations_of

SMALL = Cost(samples=128, steps=(0, 2, 4), proposals=(1, 3))


def points(section):
    return {(point["steps"], point["proposals"]): point for point in section.numbers["points"]}


def test_each_length_and_start_has_the_distance_of_the_draws_that_a_request_for_them_gives(tmp_path):
    section = SMALL.run(evaluation("started"), tmp_path)
    found = points(section)
    assert list(found) == [(k, p) for p in (1, 3) for k in (0, 2, 4)]
    for k, p in ((2, 3), (0, 1)):
        asked = evaluation("started", chain_steps=k, start_proposals=p)
        assert found[k, p]["fd"] == pytest.approx(asked.distance("prior"))
    after_start = evaluation("started", start_proposals=3, after="start stage 2")
    assert found[0, 3]["fd"] == pytest.approx(after_start.distance("prior"))
    assert all(point["seconds"] > 0 and point["fd_error"] > 0 for point in found.values())
    assert finite(section)
    assert every_file_is_there(section, tmp_path)


def test_a_section_has_its_plot_for_comparisons_and_a_table_for_programs(tmp_path):
    section = SMALL.run(evaluation("started"), tmp_path)
    (plot,) = section.plots
    assert [curve.label for curve in plot.curves] == ["P = 1", "P = 3"]
    assert plot.curves[0].marks == ("0", "2", "4")
    assert set(plot.levels.values()) == set(section.numbers["fd"].values())
    assert plot.conditions["samples"] == "128"
    with open(tmp_path / "cost.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["fd"]) for row in rows] == [point["fd"] for point in section.numbers["points"]]
    section.write(tmp_path, {})
    assert read_section(tmp_path) == section


@pytest.mark.parametrize("prior", ["joint", "progressive", "smc", "diffusion", "ncp", "pcn"])
def test_a_prior_without_a_chosen_start_has_one_line(tmp_path, prior):
    made = evaluation(prior)
    assert SMALL.unsupported(made) is None
    assert list(points(SMALL.run(made, tmp_path))) == [(0, None), (2, None), (4, None)]


def test_a_prior_that_counts_no_steps_is_refused():
    for prior, asked in (("root", {}), ("sir", {}), ("joint", {"request": Request(after=ROOT)})):
        assert "runs no chain" in SMALL.unsupported(evaluation(prior, **asked))


def test_a_draw_that_stops_at_its_start_varies_the_number_of_proposals_alone(tmp_path):
    made = evaluation("started", request=Request(after="start stage 2"))
    assert list(points(SMALL.run(made, tmp_path))) == [(0, 1), (0, 3)]


@pytest.mark.parametrize(
    ("prior", "request_", "gradients", "values"),
    [
        ("started", Request(steps=5), 5, 6),  # ULA in one chain, and 6 proposals
        ("started", Request(steps=0, start_proposals=1), 0, 0),
        ("progressive", Request(steps=3), 6, 0),
        ("diffusion", Request(), 12, 0),
        ("pcn", Request(steps=4), 0, 5),
        ("pcn", Request(steps=0), 0, 0),
        ("smc", Request(), 32, 8),  # 4 particles, in 2 stages
    ],
)
def test_evaluations_of_f_are_counted_for_one_draw(prior, request_, gradients, values):
    model = evaluation(prior).model.changed(request=request_)
    assert evaluations_of(model) == Evaluations(gradients, values)


def test_an_image_that_is_not_finite_leaves_its_point_out_and_says_so(tmp_path):
    made = evaluation("joint")
    made.model.prior.sampler = attrs.evolve(made.model.prior.sampler, step_size=1e30)
    section = attrs.evolve(SMALL, steps=(0, 300)).run(made, tmp_path)
    assert points(section)[300, None]["fd"] is None
    assert points(section)[0, None]["fd"] is not None
    assert "chains diverge" in section.text[-1]


def test_the_cheapest_point_near_the_best_is_named():
    none = Evaluations(0, 0)
    made = [
        Point(k, p, 1.0, 0.1, seconds, none, gap, 0.01)
        for k, p, seconds, gap in ((30, 8, 0.2, 0.8), (10, 8, 0.05, 0.76), (15, 1, 0.06, 0.77), (5, 8, 0.02, 0.6))
    ]
    words = recommendation(made, 0.05)
    assert "within 5 points of the best gap (K = 30, P = 8: 80.0 ± 1.0 %) is K = 10, P = 8" in words
    assert "76.0 % in 50 ms for one draw, 25.0 % of the best one's 200 ms" in words
    assert recommendation(made, 0.0).startswith("No cheaper point")
    assert "not known" in recommendation([attrs.evolve(made[0], gap=None)], 0.05)


def test_the_clock_of_one_thread_does_not_count_the_time_of_others(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert clock_of(torch.device("cpu")).name == "processor time of one thread"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert "2 threads" in clock_of(torch.device("cpu")).name
