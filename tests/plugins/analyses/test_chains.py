import math

import pytest
import torch
from learned import evaluation, every_file_is_there, finite

from hebm_plugins.analyses.chain_recording import Lengths, features_along, lengths, record
from hebm_plugins.analyses.chains import Chains
from hebm_plugins.analyses.drawing import draws

SMALL = Chains(rows=2, chains=4, images=70)


@pytest.mark.parametrize(
    ("prior", "expected"),
    [("root", (0, 0)), ("joint", (1, 8)), ("diffusion", (3, 4)), ("multi-stage", (1, 4)), ("progressive", (2, 4))],
)
def test_levels_and_their_length_are_found_by_counting(tmp_path, prior, expected):
    assert lengths(evaluation(tmp_path, prior)) == Lengths(*expected)


@pytest.mark.parametrize("prior", ["joint", "diffusion"])
def test_recorded_states_run_from_the_base_to_the_draws(tmp_path, prior):
    made = evaluation(tmp_path, prior)
    shape = lengths(made)
    levels = record(made, shape, 5, 2, 3)
    assert [step for step, _ in levels[0].states] == list(range(0, shape.steps + 1, 2))
    assert torch.equal(levels[-1].states[-1][1], draws(made, 5, made.noise("prior")).u[:3])
    base = made.prior.base.sample(made.generator, 5, made.noise("prior").derive("base")).u[:3]
    assert torch.equal(levels[0].states[0][1], base)
    for above, below in zip(levels, levels[1:], strict=False):
        assert torch.equal(above.states[-1][1], below.states[0][1])
    assert levels[0].values.shape == (shape.steps, 5)
    assert levels[0].projections.shape == (shape.steps, 5, 8)


@pytest.mark.parametrize("prior", ["joint", "diffusion"])
def test_features_at_the_end_are_those_of_the_draws_whatever_the_batches(tmp_path, prior):
    made = evaluation(tmp_path, prior)
    shape = lengths(made)
    found = features_along(made, shape, 70, 3)
    assert list(found) == sorted({*range(0, shape.steps, 3), shape.steps})
    expected = made.features("prior")[:70]
    assert torch.allclose(found[shape.steps], expected, atol=1e-3)


@pytest.mark.parametrize("prior", ["joint", "diffusion"])
def test_the_section_has_strips_and_curves_of_both_lengths_for_every_level(tmp_path, prior):
    made = evaluation(tmp_path, prior)
    assert SMALL.unsupported(made) is None
    section = SMALL.run(made, tmp_path)
    levels = {"joint": 1, "diffusion": 3}[prior]
    strips = [f"{name}-{t}.png" for name in ("short", "long") for t in range(levels)]
    assert {p.file for p in section.pictures} == {*strips, "short.png", "long.png", "distance.png"}
    assert every_file_is_there(section, tmp_path)
    assert finite(section)
    assert len(section.numbers["fd"]) == 11
    assert len(section.tables[0].rows) == 3 * levels


def test_states_that_are_not_finite_are_said_to_be_so(tmp_path):
    made = evaluation(tmp_path)
    with torch.no_grad():
        for parameter in made.prior.parameters():
            parameter.mul_(1e20)
    section = SMALL.run(made, tmp_path)
    assert "not finite" in section.text[1]
    assert math.isnan(section.numbers["fd"]["80"])


def test_no_distance_where_none_is_asked_for_or_no_extractor_can_be_had(tmp_path):
    made = evaluation(tmp_path)
    assert Chains(rows=2, chains=4, images=0).run(made, tmp_path).numbers["fd"] == {}


def test_a_prior_that_runs_no_chain_is_refused(tmp_path):
    assert "runs no chain" in Chains().unsupported(evaluation(tmp_path, "root"))


@pytest.mark.parametrize(
    ("prior", "names"), [("progressive", ["stage 1", "stage 2"]), ("diffusion", ["level 2", "level 1", "level 0"])]
)
def test_chains_are_called_after_what_they_lead_to(tmp_path, prior, names):
    section = SMALL.run(evaluation(tmp_path, prior), tmp_path)
    assert f"({', '.join(names)})" in section.text[0]
    assert [picture.title for picture in section.pictures[: len(names)]] == [f"Short run, {name}" for name in names]
