import math

import pytest
import torch
from learned import evaluation, every_file_is_there, finite

from hebm.interfaces import ROOT, Request
from hebm_plugins.analyses.chain_recording import features_along, record
from hebm_plugins.analyses.chains import Chains

SMALL = Chains(rows=2, chains=4, images=70)
CHAINS = {
    "joint": ["prior"],
    "multi-stage": ["stage 2"],
    "started": ["stage 2"],
    "progressive": ["stage 1", "stage 2"],
    "diffusion": ["level 2", "level 1", "level 0"],
    "ncp": ["layer 0", "layer 1"],
}
STEPS = {"joint": 8, "multi-stage": 4, "started": 4, "progressive": 4, "diffusion": 4, "ncp": 4}


def chain_lengths(prior, **asked):
    return evaluation(prior, **asked).model.chain_lengths


@pytest.mark.parametrize("prior", CHAINS)
def test_the_chains_of_a_draw_are_known_by_name_and_length(prior):
    assert list(chain_lengths(prior)) == CHAINS[prior]
    assert set(chain_lengths(prior).values()) == {STEPS[prior]}
    assert set(chain_lengths(prior, chain_steps=7).values()) == {7}


@pytest.mark.parametrize("prior", CHAINS)
def test_recorded_states_run_from_the_root_to_the_draws(prior):
    made, steps = evaluation(prior), STEPS[prior]
    chains = record(made.model, 5, 1, 2, 3)
    assert [chain.name for chain in chains] == CHAINS[prior]
    assert [step for step, _ in chains[0].states] == list(range(0, steps + 1, 2))
    walked = dict(made.model.walk(5, made.noise("prior")))
    assert torch.equal(chains[0].states[0][1], walked["start stage 2" if prior == "started" else ROOT].u[:3])
    for chain in chains:
        assert torch.equal(chain.states[-1][1], walked[chain.name].u[:3])
        assert chain.values.shape == chain.grad_norms.shape == (steps, 5)
        assert chain.projections.shape == (steps, 5, 8)
    for above, below in zip(chains, chains[1:], strict=False):
        assert torch.equal(above.states[-1][1], below.states[0][1])
    assert torch.equal(chains[-1].states[-1][1], made.model.draw(5, made.noise("prior")).u[:3])


def test_a_longer_run_begins_as_the_short_one():
    made = evaluation()
    (short,), (long,) = (record(made.model, 5, factor, 2, 3) for factor in (1, 3))
    assert [step for step, _ in long.states] == [0, 6, 12, 18, 24]
    assert torch.equal(long.values[:8], short.values)


@pytest.mark.parametrize("prior", ["joint", "diffusion", "ncp"])
def test_features_at_the_end_are_those_of_the_draws_whatever_the_batches(prior):
    made, steps = evaluation(prior), STEPS[prior]
    found = features_along(made, 70, 1, 3)
    assert list(found) == sorted({*range(0, steps, 3), steps})
    expected = made.features("prior")[:70]
    assert torch.allclose(found[steps], expected, atol=1e-3)


@pytest.mark.parametrize(
    "prior", ["joint", *(pytest.param(name, marks=pytest.mark.slow) for name in ("diffusion", "ncp"))]
)
def test_the_section_has_strips_and_curves_of_both_lengths_for_every_chain(tmp_path, prior):
    made, names = evaluation(prior), CHAINS[prior]
    assert SMALL.unsupported(made) is None
    section = SMALL.run(made, tmp_path)
    strips = [f"{name}-{t}.png" for name in ("short", "long") for t in range(len(names))]
    assert {p.file for p in section.pictures} == {*strips, "short.png", "long.png", "distance.png"}
    assert every_file_is_there(section, tmp_path)
    assert finite(section)
    assert section.numbers["steps"] == dict.fromkeys(names, STEPS[prior])
    assert len(section.numbers["fd"]) == 11
    assert len(section.tables[0].rows) == 3 * len(names)


def test_chains_of_a_sampler_without_gradients_have_curves_of_the_log_density_alone(tmp_path):
    made = evaluation("pcn")
    section = SMALL.run(made, tmp_path)
    assert every_file_is_there(section, tmp_path)
    (curves,) = [picture for picture in section.pictures if picture.file == "long.png"]
    assert "gradient" not in curves.title
    assert [chain.grad_norms for chain in record(made.model, 4, 1, 2, 2)] == [None]


def test_states_that_are_not_finite_are_said_to_be_so(tmp_path):
    made = evaluation()
    with torch.no_grad():
        for parameter in made.model.prior.parameters():
            parameter.mul_(1e20)
    section = SMALL.run(made, tmp_path)
    assert "not finite" in section.text[1]
    assert math.isnan(section.numbers["fd"]["80"])


def test_no_distance_where_none_is_asked_for(tmp_path):
    made = evaluation()
    assert Chains(rows=2, chains=4, images=0).run(made, tmp_path).numbers["fd"] == {}


@pytest.mark.parametrize(
    ("prior", "reason"), [("root", "runs no chain"), ("sir", "runs no chain"), ("smc", "chosen by weight")]
)
def test_a_prior_without_chains_of_its_own_is_refused(prior, reason):
    assert reason in Chains().unsupported(evaluation(prior))


def test_stopping_behind_a_transition_records_the_chains_up_to_it():
    made = evaluation("diffusion", request=Request(after="level 1"))
    assert [chain.name for chain in record(made.model, 4, 1, 2, 2)] == ["level 2", "level 1"]
    assert "runs no chain" in Chains().unsupported(evaluation(request=Request(after=ROOT)))


@pytest.mark.parametrize("prior", [pytest.param("progressive", marks=pytest.mark.slow), "diffusion"])
def test_chains_are_called_after_their_transitions(tmp_path, prior):
    section, names = SMALL.run(evaluation(prior), tmp_path), CHAINS[prior]
    assert f"({', '.join(names)})" in section.text[0]
    assert [picture.title for picture in section.pictures[: len(names)]] == [f"Short run, {name}" for name in names]
    assert [row[0] for row in section.tables[0].rows[::3]] == [f"{name}: log density" for name in names]
