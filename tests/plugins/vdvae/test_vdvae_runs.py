"""Whole runs with VDVAE: statistics of the data, skipped gradients, averages, and a stop in the middle."""

import pytest
from real_runs import differences, log, merged, newest, tiny, train

BACKBONE = {"type": "vdvae-tiny", "width": 8, "latent_channels": 1}
OPTIMIZATION = {
    "steps": 6,
    "optimizer": "adamw",
    "betas": [0.9, 0.9],
    "weight_decay": 0.01,
    "schedule": "constant",
    "warmup": 3,
    "warmup_from_zero": True,
    "clip": 200.0,
    "skip_above": 400.0,
    "ema": 0.9,
    "ema_warmup": False,
}


def experiment(**tables):
    table = tiny(data={"batch_size": 32, "limit": 128}, run={"checkpoint_every": 2})
    train = {"unit": "nats/dim", "backbone": OPTIMIZATION, "prior": {"steps": 2}}
    return merged({**table, "backbone": BACKBONE}, {"train": train, **tables})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "tiny"
    assert train(experiment(), folder)
    return folder


@pytest.mark.parametrize("stop", [3, 7])
def test_a_run_that_was_stopped_equals_one_that_was_not_bit_for_bit(tmp_path, whole, stop):
    assert not train(experiment(), tmp_path / "tiny", stop_after=stop)
    assert train(experiment(), tmp_path / "tiny")
    assert differences(tmp_path / "tiny", whole) == []


def test_the_first_step_has_rate_zero_and_the_statistics_are_of_the_data(whole):
    rates = [line["learning_rate_backbone"] for line in log(whole)[:6]]
    assert rates[:4] == pytest.approx([0.0, 1e-3 / 3, 2e-3 / 3, 1e-3])
    tensors = newest(whole).tensors["backbone"]
    assert 50 < float(tensors["normalisation.mean"]) < 110  # digits: mean grey about 78
    assert 60 < float(tensors["normalisation.std"]) < 120


def test_every_layer_has_a_kl_in_the_log(whole):
    kl = {name for name in log(whole)[0] if name.startswith("kl_layer_")}
    assert kl == {f"kl_layer_{i}" for i in range(4)}
