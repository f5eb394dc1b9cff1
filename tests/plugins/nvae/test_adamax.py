"""The published optimiser's state by our names, and back."""

import torch
from torch import nn

from hebm_plugins.nvae.adamax import moments_of, with_moments

NET = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=False))
ORDER = ["1.weight", "0.weight", "0.bias"]  # a file's own
SHAPES = {0: (1, 3), 1: (3, 2), 2: (3,)}


def state(**changes):
    entries = {i: {"step": 7, "exp_avg": torch.rand(s), "exp_inf": torch.rand(s)} for i, s in SHAPES.items()}
    return {"state": {**entries, **changes.pop("state", {})}, "param_groups": [{"lr": 1.0, "params": [0, 1, 2]}]}


def test_moments_go_by_name_and_return_to_their_places():
    optimizer = state()
    moments, emptied = moments_of(optimizer, ORDER, NET)
    assert torch.equal(moments["0.weight/exp_inf"], optimizer["state"][1]["exp_inf"])
    assert moments["0.bias/step"] == 7
    assert emptied["state"][2] == {"step": 7, "exp_avg": None, "exp_inf": None}
    back = with_moments(emptied, moments, ORDER, trained_on=False)
    assert back["state"][0]["exp_avg"] is optimizer["state"][0]["exp_avg"]
    assert (list(back["state"][0]), back["param_groups"]) == (list(optimizer["state"][0]), optimizer["param_groups"])


def test_torch_goes_on_with_them():
    """The moments are what `torch.optim.Adamax` calls its state."""
    moments, _ = moments_of(state(), ORDER, NET)
    optimizer = torch.optim.Adamax(NET.parameters())
    for name, parameter in NET.named_parameters():
        optimizer.state[parameter] = {k: moments[f"{name}/{k}"].clone() for k in ("step", "exp_avg", "exp_inf")}
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert optimizer.state[NET[0].bias]["step"] == 8


def test_a_state_of_another_form_is_left_whole():
    others = [
        None,
        [],
        {"state": []},
        state(state={3: {"step": 7, "exp_avg": torch.ones(1), "exp_inf": torch.ones(1)}}),
        state(state={0: {"step": 7, "exp_avg": torch.ones(4), "exp_inf": torch.ones(1, 3)}}),
        state(state={0: {"step": 7, "exp_avg": torch.ones(1, 3)}}),
        state(state={0: {"step": "7", "exp_avg": torch.ones(1, 3), "exp_inf": torch.ones(1, 3)}}),
        state(state={"0": {}}),
    ]
    for optimizer in others:
        moments, kept = moments_of(optimizer, ORDER, NET)
        assert moments == {}
        assert kept is optimizer
        assert with_moments(kept, {}, ORDER, trained_on=False) == optimizer


def test_a_run_that_went_on_has_todays_moments_for_every_parameter_that_has_any():
    _, emptied = moments_of(state(), ORDER, NET)
    today = {f"0.bias/{k}": torch.full((3,), 2.0) for k in ("exp_avg", "exp_inf")} | {"0.bias/step": torch.tensor(9.0)}
    written = with_moments(emptied, {**today, "0.weight/exp_avg": torch.ones(3, 2)}, ORDER, trained_on=True)
    assert list(written["state"]) == [2]
    assert (written["state"][2]["step"], written["param_groups"][0]["params"]) == (9, [0, 1, 2])
