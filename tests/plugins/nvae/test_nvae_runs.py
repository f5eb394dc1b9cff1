"""Whole runs with an NVAE: several processes, micro-batches, kills, and recalibrated statistics."""

from pathlib import Path

import pytest
import torch
from real_runs import Recording, differences, distance, fork_server, log, merged, newest, tiny, train, train_and_record

from hebm import registry
from hebm_plugins.nvae.recipe import NVAETiny

SIZES = {"channels": 4, "groups": 2, "latent_channels": 2, "flows": 1, "architecture": "res_mbconv"}
HERE = Path(__file__).parent


def experiment(**tables):
    """8 steps of a small NVAE on digits, then 4 of the prior, with recalibration between them."""
    steps = {
        "backbone": {"steps": 8, "optimizer": "adamax", "learning_rate": 0.01, "epsilon": 1e-3, "ema": 0.9},
        "prior": {"steps": 4},
    }
    table = tiny(train=steps, data={"batch_size": 32, "limit": 256}, run={"dtype": "float64", "checkpoint_every": 100})
    energy = {"type": "mlp", "width": 4}
    table["prior"] = {"type": "joint", "energy": energy, "sampler": {"type": "ula", "steps": 2}}
    table["backbone"] = {"type": "nvae-for-test", **SIZES, "recalibration": {"passes": 2, "rows": 4}}
    return merged(table, tables)


@pytest.fixture(autouse=True)
def _registered():
    registry.register("hebm_backbones", "nvae-for-test", NVAETiny)
    yield
    registry.unregister("hebm_backbones", "nvae-for-test")


def registered(argument):
    """For a process of several: train with the recipe registered."""
    registry.register("hebm_backbones", "nvae-for-test", NVAETiny)
    train_and_record(argument)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run in one process."""
    folder = tmp_path_factory.mktemp("whole") / "tiny"
    registry.register("hebm_backbones", "nvae-for-test", NVAETiny)
    assert train(experiment(), folder)
    return folder


def test_two_processes_train_as_one_does(tmp_path, whole):
    argument = {"table": experiment(), "folder": str(tmp_path / "two")}
    processes = fork_server().world("test_nvae_runs:registered", argument, path=[HERE])
    assert [process.end() for process in processes] == [0, 0], "".join(process.stderr for process in processes)
    assert distance(tmp_path / "two", whole) < 1e-9
    for one, two in zip(log(whole), log(tmp_path / "two"), strict=True):
        assert one.pop("phase") == two.pop("phase")
        assert one == pytest.approx(two, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("stop", [3, 8, 10])
def test_a_run_that_was_stopped_equals_one_that_was_not_bit_for_bit(tmp_path, whole, stop):
    assert not train(experiment(), tmp_path / "tiny", stop_after=stop)
    assert train(experiment(), tmp_path / "tiny")
    assert differences(tmp_path / "tiny", whole) == []


def test_recalibration_changes_the_decoders_batch_statistics_and_nothing_else(tmp_path, whole):
    plain = experiment(backbone={"recalibration": {"passes": 0}})
    assert train(plain, tmp_path / "plain")
    changed = {name for name, a, b in backbones(whole, tmp_path / "plain") if not torch.equal(a, b)}
    kinds = ("running_mean", "running_var", "num_batches_tracked")
    running = {name for name, *_ in backbones(whole, whole) if name.endswith(kinds)}
    assert changed == {name for name in running if name.startswith("decoder.")}


def backbones(one, other):
    a, b = newest(one).tensors["backbone"], newest(other).tensors["backbone"]
    return [(name, tensor, b[name]) for name, tensor in a.items()]


def test_micro_batches_train(tmp_path):
    """Statistics are those of a micro-batch, so that results differ; nothing else may break."""
    listener = Recording()
    assert train(experiment(run={"gradient_accumulation": 2}), tmp_path / "tiny", listener=listener)
    assert all(line["skipped"] == 0 for line in log(tmp_path / "tiny"))
