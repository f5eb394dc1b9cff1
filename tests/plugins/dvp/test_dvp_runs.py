"""Whole runs with DVP-VAE: the root learns with the backbone, an energy-based prior on top of it afterwards."""

import pytest
import torch
from real_runs import differences, distance, in_two_processes, log, merged, newest, tiny, train

from hebm.errors import CheckpointError, ConfigError
from hebm.runs import open_run

OPTIMIZATION = {"optimizer": "adamax", "learning_rate": 0.01, "ema": 0.9, "clip": 1.0}
BACKBONE = {"latents": [1, 2], "channels": 8, "encoder_blocks": 1, "context_size": 3}
ROOT = {"type": "dvp", "steps": 3, "blocks": 1, "dropout": 0.1, "stable": True, "learn_gamma_min": True}
TILTED = {
    "type": "multi-stage",
    "stages": 2,
    "root": ROOT,
    "energy": {"type": "with-context", "energy": {"type": "mlp", "width": 6}},
    "sampler": {"type": "ula", "steps": 2},
}


def experiment(prior=TILTED, **tables):
    """8 steps of the backbone and its root, then 2 × 4 of the prior, on digits."""
    steps = {"backbone": {**OPTIMIZATION, "steps": 8}, "prior": {"steps": 4}}
    table = tiny(train=steps, data={"batch_size": 32, "limit": 256}, run={"dtype": "float64", "checkpoint_every": 100})
    return merged({**table, "backbone": {"type": "dvp", **BACKBONE}, "prior": prior}, tables)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run in one process."""
    folder = tmp_path_factory.mktemp("whole") / "tiny"
    assert train(experiment(), folder)
    return folder


def of_prior(folder, part):
    return {name: t for name, t in newest(folder).tensors["prior"].items() if part in name}


def test_two_processes_train_as_one_does(tmp_path, whole):
    in_two_processes(experiment(), tmp_path / "two")
    assert distance(tmp_path / "two", whole) < 1e-9
    for one, two in zip(log(whole), log(tmp_path / "two"), strict=True):
        assert one.pop("phase") == two.pop("phase")
        assert one == pytest.approx(two, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("stop", [3, 10, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (8, 14))])
def test_a_run_that_was_stopped_equals_one_that_was_not_bit_for_bit(tmp_path, whole, stop):
    assert not train(experiment(), tmp_path / "tiny", stop_after=stop)
    assert train(experiment(), tmp_path / "tiny")
    assert differences(tmp_path / "tiny", whole) == []


def test_micro_batches_train_as_whole_batches_do(tmp_path, whole):
    assert train(experiment(run={"gradient_accumulation": 2}), tmp_path / "tiny")
    assert distance(tmp_path / "tiny", whole) < 1e-9


def test_the_dcts_scale_is_of_the_data_and_in_the_checkpoint(whole):
    scale = newest(whole).tensors["backbone"]["pseudo_input.scale"]
    assert scale.shape == (1, 3, 3)
    assert scale[0, 0, 0] > 2  # 8 × the mean grey of the brightest image
    assert torch.equal(scale, scale.round())


def test_phase_1_alone_trains_the_root_and_the_rest_trains_after_it(whole):
    phases = [line["phase"] for line in log(whole)]
    assert phases == ["backbone"] * 8 + ["stage 1"] * 4 + ["stage 2"] * 4
    first, later = log(whole)[0], log(whole)[8]
    assert "context_middle" in first
    assert "context_middle" not in later


def test_phase_1_clips_backbone_and_root_by_one_norm(whole):
    norms = {name for name in log(whole)[0] if name.startswith("grad_norm")}
    assert norms == {"grad_norm_together"}
    assert {name for name in log(whole)[8] if name.startswith("grad_norm")} == {"grad_norm_prior"}


def test_several_priors_take_over_one_backbone_with_its_root(tmp_path, whole):
    table = experiment(seed=1, train={"backbone_from": str(whole)})
    assert train(table, tmp_path / "next")
    assert [line["phase"] for line in log(tmp_path / "next")] == ["stage 1"] * 4 + ["stage 2"] * 4
    taken = of_prior(tmp_path / "next", "diffusion.")
    assert taken
    kept = open_run(whole).model.prior.state_dict()
    for name, tensor in open_run(tmp_path / "next").model.prior.state_dict().items():
        if "diffusion." in name:
            assert torch.equal(tensor, kept[name]), name


def test_a_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere is not a run folder: it does not exist"):
        train(experiment(train={"backbone_from": str(tmp_path / "nowhere")}), tmp_path / "tiny")


def test_a_scheme_that_would_not_learn_the_contexts_prior_is_refused(tmp_path):
    table = experiment(ROOT)
    table["train"] = {"type": "variational", "steps": 2}
    with pytest.raises(ConfigError, match="use 'two-phase' for this backbone"):
        train(table, tmp_path / "tiny")


@pytest.mark.parametrize(
    ("changed", "listed"),
    [
        ({"prediction": "velocity"}, ["prediction: 'noise' there, 'velocity' here"]),
        ({"steps": 4}, ["steps: 3 there, 4 here"]),
        ({"gamma_min": -7.0}, ["gamma_min: -6.0 there, -7.0 here"]),
        ({"gamma_max": 6.0}, ["gamma_max: 7.0 there, 6.0 here"]),
        ({"learn_gamma_min": False}, ["learn_gamma_min: True there, False here"]),
        ({"schedule": "cosine", "stable": False}, ["schedule: 'linear' there, 'cosine' here"]),
        ({"time": "discrete", "blocks": 2}, ["time: 'continuous' there, 'discrete' here", "blocks: 1 there, 2 here"]),
        ({"channels": 32}, ["channels: 16 there, 32 here"]),
    ],
)
def test_a_root_that_was_trained_with_other_settings_is_not_taken_over_and_they_are_listed(
    tmp_path, whole, changed, listed
):
    table = experiment({**TILTED, "root": {**ROOT, **changed}}, train={"backbone_from": str(whole)})
    with pytest.raises(ConfigError, match="trained stage 'context' with other settings") as raised:
        train(table, tmp_path / "next")
    assert {line.strip() for line in str(raised.value).splitlines()[1:-1]} == set(listed)


@pytest.mark.parametrize("changed", [{"temperature": 0.5}, {"dropout": 0.0}, {"stable": False}])
def test_a_root_is_taken_over_if_only_settings_of_training_or_of_drawing_differ(tmp_path, whole, changed):
    table = experiment({**TILTED, "root": {**ROOT, **changed}}, train={"backbone_from": str(whole)})
    assert train(table, tmp_path / "next")


def test_a_backbone_whose_prior_has_no_such_root_is_refused(tmp_path):
    plain = experiment({"type": "gaussian"}, backbone={"pseudo_input": "none"})
    assert train(plain, tmp_path / "plain")
    table = experiment(train={"backbone_from": str(tmp_path / "plain")}, backbone={"pseudo_input": "none"})
    with pytest.raises(ConfigError, match="pseudo_input"):
        train(table, tmp_path / "next")
