"""Schedules are closed forms of the step; averages are the recursion they claim to be."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from hebm.errors import ConfigError
from hebm.training.optimization import OPTIMIZERS, Optimization, PhaseOptimization, averaged

SCHEDULES = Path(__file__).parents[1] / "vectors" / "nvae" / "unit" / "schedules.json"


def rates(total=100, **options):
    optimization = Optimization(learning_rate=2.0, **options)
    return [optimization.rate(step, total) for step in range(total)]


def test_a_constant_rate_is_constant():
    assert set(rates()) == {2.0}


def test_warm_up_rises_to_the_full_rate_in_its_number_of_steps():
    found = rates(warmup=4)
    assert found[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        ("linear", lambda p: 1 - 0.9 * p),
        ("cosine", lambda p: 0.1 + 0.45 * (1 + math.cos(math.pi * p))),
        ("exponential", lambda p: 0.1**p),
    ],
)
@pytest.mark.parametrize("start", [0.0, 0.7])
def test_a_schedule_falls_from_its_start_to_its_final_factor(schedule, formula, start):
    found = rates(schedule=schedule, final=0.1, decay_from=start)
    expected = [2 * formula(max(0.0, step / 100 - start) / (1 - start)) for step in range(100)]
    assert found == pytest.approx(expected)
    assert found[0] == 2.0
    assert all(a >= b for a, b in zip(found, found[1:], strict=False))


def test_a_schedule_that_never_starts_is_constant():
    assert set(rates(schedule="linear", decay_from=1.0)) == {2.0}


def test_epoch_cosine_is_the_published_recursion_at_every_step():
    toy = json.loads(SCHEDULES.read_text())["lr_toy"]
    epoch, total = toy["iters_per_epoch"], toy["epochs"] * toy["iters_per_epoch"]
    optimization = Optimization(
        learning_rate=toy["lr"],
        schedule="epoch-cosine",
        epoch=epoch,
        warmup=toy["warmup_epochs"] * epoch,
        final=toy["lr_min"] / toy["lr"],
    )
    found = [optimization.rate(step, total) for step in range(total)]
    assert found == pytest.approx(toy["per_iteration"], abs=1e-12, rel=0)


def test_epoch_cosine_without_warm_up_falls_from_the_full_rate_to_the_final_one():
    found = rates(total=12, schedule="epoch-cosine", epoch=3, final=0.1)
    assert found[::3] == pytest.approx([2.0, 2 * (0.1 + 0.9 * 0.75), 2 * (0.1 + 0.9 * 0.25), 0.2])
    assert all(found[step] == found[step - step % 3] for step in range(12))


@pytest.mark.parametrize("total", [7, 8, 9])
def test_a_shorter_last_epoch_counts_as_one(total):
    found = rates(total=total, schedule="epoch-cosine", epoch=3, final=0.1)
    assert found[-1] == pytest.approx(0.2)
    assert found[3] == pytest.approx(2 * 0.55)


def test_a_single_epoch_after_the_warm_up_stays_where_that_ended():
    assert rates(total=6, schedule="epoch-cosine", epoch=3, warmup=3)[2:] == pytest.approx([4 / 3] * 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epoch": 3, "warmup": 4}, "multiple of epoch"),
        ({"warmup": 1}, "stay at 0"),
        ({"decay_from": 0.5}, "decay_from"),
    ],
)
def test_a_warm_up_or_start_that_epoch_cosine_does_not_have_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Optimization(schedule="epoch-cosine", **options)


def test_steps_that_leave_no_epoch_after_the_warm_up_are_refused():
    with pytest.raises(ConfigError, match="9 steps leave none"):
        PhaseOptimization(schedule="epoch-cosine", epoch=3, warmup=9, steps=9)
    with pytest.raises(ConfigError, match="9 steps leave none"):
        Optimization(schedule="epoch-cosine", epoch=3, warmup=9).rate(0, 9)
    PhaseOptimization(schedule="epoch-cosine", epoch=3, warmup=9, steps=10)
    PhaseOptimization(schedule="epoch-cosine", epoch=3, warmup=9, steps=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_lowers_a_loss(name):
    x = nn.Parameter(torch.ones(3))
    optimizer = Optimization(optimizer=name, learning_rate=0.1, weight_decay=0.01).build([x])
    for _ in range(20):
        optimizer.zero_grad()
        x.square().sum().backward()
        optimizer.step()
    assert float(x.detach().abs().max()) < 0.5


def test_an_average_follows_early_and_decays_later():
    net = nn.Linear(2, 1)
    average = averaged(net, 0.5)
    expected = None
    for n in range(12):
        with torch.no_grad():
            net.weight.fill_(float(n**2))
        average.update_parameters(net)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = float(n**2) if expected is None else decay * expected + (1 - decay) * n**2
    assert average.module.weight.flatten().tolist() == pytest.approx([expected] * 2)


def test_buffers_of_an_average_are_the_last_ones():
    net = nn.BatchNorm1d(2)
    average = averaged(net, 0.9)
    net.running_mean.fill_(7.0)
    average.update_parameters(net)
    net.running_mean.fill_(8.0)
    average.update_parameters(net)
    assert average.module.running_mean.tolist() == [8.0, 8.0]


def test_a_warm_up_from_zero_reaches_the_full_rate_one_step_later():
    assert rates(warmup=4, warmup_from_zero=True)[:6] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]


def test_an_average_without_warm_up_starts_from_the_initial_weights_with_the_full_decay():
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(1.0)
        average = averaged(module, 0.9, warmup=False)
        for value in (2.0, 3.0):
            module.weight.fill_(value)
            average.update_parameters(module)
    assert average.module.weight.item() == pytest.approx(0.9 * (0.9 * 1.0 + 0.1 * 2.0) + 0.1 * 3.0)
