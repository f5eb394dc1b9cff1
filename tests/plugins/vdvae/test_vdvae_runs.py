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


@pytest.fixture(scope="module")
def skipping(tmp_path_factory):
    """An experiment whose threshold leaves out some of the steps, and its run."""
    folder = tmp_path_factory.mktemp("skipping")
    assert not train(experiment(train={"backbone": {"skip_above": 1e-9}}), folder / "never", stop_after=6)
    norms = sorted(line["grad_norm_backbone"] for line in log(folder / "never"))
    table = experiment(train={"backbone": {"skip_above": (norms[1] + norms[2]) / 2}})
    assert train(table, folder / "tiny")
    return table, folder / "tiny"


@pytest.mark.parametrize("stop", [3, 7])
def test_a_run_that_was_stopped_equals_one_that_was_not_bit_for_bit(tmp_path, skipping, stop):
    table, whole = skipping
    skipped = [line["skipped"] for line in log(whole)]
    assert 0 < skipped[5] < 6
    assert not train(table, tmp_path / "tiny", stop_after=stop)
    assert train(table, tmp_path / "tiny")
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
