"""Several processes, and micro-batches: the same data, the same gradients, the same weights."""

import json

import pytest
import torch
from real_runs import (
    SCHEMES,
    distance,
    fork_server,
    in_two_processes,
    log,
    merged,
    newest,
    tiny,
    train,
    train_and_record,
)
from two_tilts import train_with_two_tilts

COMBINATIONS = [(scheme, prior) for scheme in SCHEMES for prior in ("gaussian", "joint")]
EXACT = {"dtype": "float64", "device": "cpu"}


def twenty_steps(scheme, prior, **run):
    """An experiment of 20 steps in float64."""
    table = tiny(scheme, prior, run={**EXACT, **run, "checkpoint_every": 100})
    steps = {"backbone": {"steps": 10}, "prior": {"steps": 10}} if scheme == "two-phase" else {"steps": 20}
    return merged(table, {"train": steps})


@pytest.mark.parametrize(("scheme", "prior"), COMBINATIONS)
def test_two_processes_train_as_one_does(tmp_path, scheme, prior):
    table = twenty_steps(scheme, prior)
    one, two = tmp_path / "one", tmp_path / "two"
    train_and_record({"table": table, "folder": str(one)})
    in_two_processes(table, two)
    assert distance(one, two) < 1e-9
    assert newest(one).tensors["backbone"]["generator.0.weight"].dtype == torch.float64
    check_logs(log(one), log(two))
    seen = [
        json.loads((folder / f"indices-{rank}.json").read_text()) for folder, rank in ((one, 0), (two, 0), (two, 1))
    ]
    assert len(seen[0]) == log(one)[-1]["total_step"]
    for whole, first, second in zip(*seen, strict=True):
        assert whole[0] == first[0] + second[0]
        assert len(first[0]) == len(second[0]) == 64


def check_logs(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert set(a) == set(b)
        assert a.pop("phase") == b.pop("phase")
        assert a == pytest.approx(b, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("scheme", "prior"), COMBINATIONS)
def test_micro_batches_train_as_whole_batches_do(tmp_path, scheme, prior):
    one, two = tmp_path / "one", tmp_path / "two"
    assert train(twenty_steps(scheme, prior), one)
    assert train(twenty_steps(scheme, prior, gradient_accumulation=2), two)
    assert distance(one, two) < 1e-9
    check_logs(log(one), log(two))


def test_micro_batches_in_two_processes_train_as_whole_batches_do(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert train(twenty_steps("joint", "joint"), one)
    in_two_processes(twenty_steps("joint", "joint", gradient_accumulation=2), two)
    assert distance(one, two) < 1e-9


@pytest.mark.parametrize("group", ["backbone", "prior"])
def test_the_comparison_notices_gradients_that_are_not_averaged(tmp_path, monkeypatch, group):
    """The negative control: one process that sees half of each batch is what a missing average looks like."""
    from hebm.data import batches

    table = twenty_steps("joint", "joint")
    assert train(table, tmp_path / "one")
    bounds = batches._bounds
    monkeypatch.setattr(batches, "_bounds", lambda size, rows: bounds(size, (0, 2)))
    assert train(table, tmp_path / "half")
    one, half = newest(tmp_path / "one").tensors[group], newest(tmp_path / "half").tensors[group]
    assert max(float((one[name] - half[name]).abs().max()) for name in one) > 1e-5


def test_a_prior_of_two_stages_trains_them_one_after_another_in_two_processes(tmp_path):
    """Each phase wraps what the one before had wrapped: hooks that stayed would average twice."""
    table = {**twenty_steps("joint", "joint"), "prior": {"type": "two-tilts", "sampler": {"type": "ula", "steps": 2}}}
    table["train"]["steps"] = 5
    one, two = tmp_path / "one", tmp_path / "two"
    train_with_two_tilts({"table": table, "folder": str(one)})
    argument = {"table": table, "folder": str(two)}
    processes = fork_server().world("two_tilts:train_with_two_tilts", argument)
    assert [process.end() for process in processes] == [0, 0], processes[0].stderr + processes[1].stderr
    assert [line["phase"] for line in log(one)] == ["joint first"] * 5 + ["joint second"] * 5
    assert distance(one, two) < 1e-9


def test_processes_must_divide_the_batch(tmp_path):
    table = tiny(data={"batch_size": 127}, run={"device": "cpu"})
    argument = {"table": table, "folder": str(tmp_path / "x")}
    for process in fork_server().world("real_runs:train_and_record", argument):
        assert process.end() == 1
        assert "data.batch_size = 127 does not divide among 2 processes" in process.stderr
