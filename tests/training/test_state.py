"""What goes into a checkpoint comes back; what does not fit is refused by name."""

import pytest
import torch
from torch import nn

from hebm.errors import CheckpointError
from hebm.training.optimization import Optimization, averaged
from hebm.training.phases import Group
from hebm.training.state import GroupState, load_module


def state(seed=0, ema=0.9):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    group = Group(net, (net[1],), Optimization(ema=ema))
    optimizer = group.optimization.build(group.parameters().values())
    return GroupState("prior", group, optimizer, averaged(net, ema) if ema else None)


def step(state):
    state.group.owner(torch.ones(1, 2)).sum().backward()
    state.optimizer.step()
    if state.average is not None:
        state.average.update_parameters(state.group.owner)


def test_a_group_trains_the_parameters_of_its_modules_under_the_owners_names():
    assert list(state().group.parameters()) == ["1.weight", "1.bias"]


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_moments_and_averages_go_there_and_back(ema):
    one, other = state(ema=ema), state(seed=1, ema=ema)
    step(one)
    step(one)
    files = one.tensors()
    assert set(files) == {"optimizer-prior", "prior-ema"} if ema else {"optimizer-prior"}
    assert set(files["optimizer-prior"]) == {
        f"{name}/{moment}" for name in ("1.weight", "1.bias") for moment in ("step", "exp_avg", "exp_avg_sq")
    }
    other.load(files)
    back = other.tensors()
    assert all(torch.equal(back[stem][name], tensor) for stem in files for name, tensor in files[stem].items())


def test_moments_of_a_parameter_that_is_not_trained_are_refused():
    with pytest.raises(CheckpointError, match=r"'0\.weight', which prior does not train"):
        state(ema=0).load({"optimizer-prior": {"0.weight/step": torch.tensor(1.0)}})


def test_a_module_is_loaded_whole_or_not_at_all():
    net = nn.Linear(2, 3)
    before = net.weight.clone()
    wrong = {"weight": torch.zeros(3, 3), "extra": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"missing bias; surplus extra; other shape weight\. It was made"):
        load_module(net, wrong, "backbone")
    assert torch.equal(net.weight, before)


def test_moments_go_to_the_parameters_device_and_the_number_of_steps_stays_on_the_cpu():
    """For a parameter without axes, too, whose moments have the shape of the number of steps."""

    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones((), device="meta"))

    owner = Scale()
    group = Group(owner, (owner,), Optimization(optimizer="adamax"))
    made = GroupState("prior", group, group.optimization.build(group.parameters().values()), None)
    made.load({"optimizer-prior": {f"scale/{key}": torch.tensor(2.0) for key in ("step", "exp_avg", "exp_inf")}})
    devices = {key: value.device.type for key, value in made.optimizer.state[owner.scale].items()}
    assert devices == {"step": "cpu", "exp_avg": "meta", "exp_inf": "meta"}


def test_moments_have_the_memory_format_of_their_parameter():
    net = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    group = Group(net, (net,), Optimization())
    made = GroupState("backbone", group, group.optimization.build(group.parameters().values()), None)
    moment = torch.arange(54.0).reshape(3, 2, 3, 3)
    made.load({"optimizer-backbone": {"weight/exp_avg": moment}})
    loaded = made.optimizer.state[net.weight]["exp_avg"]
    assert torch.equal(loaded, moment)
    assert loaded.stride() == net.weight.stride()
