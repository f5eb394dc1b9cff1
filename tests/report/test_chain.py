import pytest
import torch

from hebm.interfaces import Info
from hebm.report.chain import Recorder, band, evenly, summary


def recorded(lengths, states=4):
    """Chains run one after another; u counts the steps of all of them."""
    recorder, done = Recorder(lengths, states), 0
    for name, length in lengths.items():
        for step in range(length):
            done += 1
            u, value = torch.full((3, 2), float(done)), torch.full((3,), done - 1.0)
            recorder(name, step, (u,), Info(value, torch.ones(3, 2)))
    return recorder


@pytest.mark.parametrize("length", [1, 2, 7, 40, 1000])
def test_states_are_evenly_spaced_and_few_whatever_the_length(length):
    recorder = recorded({"prior": length})
    states = recorder.states(torch.zeros(3, 2), torch.full((3, 2), float(length)))
    steps = [step for step, _ in states]
    assert (steps[0], steps[-1]) == (0, length)
    assert steps == sorted(set(steps))
    assert len(steps) == min(length + 1, 6)
    gaps = torch.tensor(steps).diff()
    assert gaps.max() - gaps.min() <= 1
    assert all(float(u[0, 0]) == step for step, u in states)


def test_chains_one_after_another_are_shown_as_one():
    recorder = recorded({"level 2": 10, "level 1": 15, "level 0": 5}, states=5)
    assert recorder.length == len(recorder.trace.values) == 30
    states = recorder.states(torch.zeros(3, 2), torch.full((3, 2), 30.0))
    assert [step for step, _ in states] == [0, 5, 10, 15, 20, 25, 30]
    assert all(float(u[0, 0]) == step for step, u in states)


def test_kept_states_are_copies():
    recorder, u = Recorder({"prior": 4}, 3), torch.zeros(2, 2)
    recorder("prior", 0, (u,), Info(torch.zeros(2), torch.zeros(2, 2)))
    u += 1
    assert recorder.kept[1].abs().max() == 0


def test_both_ends_are_among_evenly_chosen_indices():
    assert evenly(3, 5) == [0, 1, 2]
    assert evenly(16, 4) == [0, 5, 10, 15]


def test_a_band_is_over_the_finite_chains_alone():
    values = torch.arange(11.0)
    spoiled = torch.cat([values, torch.tensor([torch.nan, torch.inf])])
    found = band([0], [spoiled])
    assert (found.mean, found.low, found.high) == ([5.0], [1.0], [9.0])


def test_a_summary_counts_the_chains_that_ended_not_finite():
    recorder = recorded({"prior": 5})
    end = torch.zeros(3, 2)
    end[1, 0] = torch.inf
    states = recorder.states(torch.zeros(3, 2), end)
    found = summary(recorder, states, [u[:, 0] for _, u in states])
    assert (found.chains, found.nonfinite, found.length, found.acceptance) == (3, 1, 5, None)
    assert found.log_density.mean == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert found.f is not None
    assert found.f.steps == [step for step, _ in states]


def test_a_summary_of_chains_without_gradients_has_no_band_of_their_norm():
    recorder = Recorder({"prior": 1}, 1)
    recorder("prior", 0, (torch.zeros(3, 2),), Info(torch.zeros(3), accepted=torch.ones(3)))
    found = summary(recorder, [(0, torch.zeros(3, 2)), (1, torch.zeros(3, 2))], [])
    assert (found.grad_norm, found.acceptance) == (None, 1.0)
