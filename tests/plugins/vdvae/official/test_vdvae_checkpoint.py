"""Checkpoints of the published VDVAE code: in strictly, out exactly, with optimiser and log where they are given."""

import json
from collections import OrderedDict
from pathlib import Path

import attrs
import pytest
import torch
from vdvae_files import DATA_SETS, TINY, TRAINED, VECTORS, config, file, like, log, manifest, options, trained, weights

from hebm.building import build
from hebm.config.experiment import Experiment
from hebm.errors import CheckpointError, ConfigError
from hebm.interfaces import ImageSpec
from hebm.porting import ConvertedCheckpoint, export_checkpoint, import_checkpoint
from hebm.runs import open_run
from hebm.store import checkpoints, foreign
from hebm.testing.contents import difference
from hebm_plugins.vdvae.official.checkpoint import VDVAECheckpoint
from hebm_plugins.vdvae.official.configuration import Configuration
from hebm_plugins.vdvae.official.experiment import experiment_of
from hebm_plugins.vdvae.official.files import Checkpoint
from hebm_plugins.vdvae.presets import PRESETS
from hebm_plugins.vdvae.recipe import VDVAE

BENCHMARKS = {
    "cifar10": "cifar10.toml",
    "imagenet32": "imagenet-32.toml",
    "imagenet64": "imagenet-64.toml",
    "ffhq256": "ffhq-256.toml",
    "ffhq1024": "ffhq-1024.toml",
}


def form(name="tiny_ffhq256", **changes):
    """The format with the options that a small model needs."""
    return VDVAECheckpoint(**{**options(name), **changes})


def read(*files, **changes):
    return form(**changes).read(files)


# ---------------------------------------------------------------- import and export


@pytest.mark.parametrize("name", TINY)
def test_an_imported_file_comes_back_bit_for_bit(name, tmp_path):
    path = VECTORS / name / "model-ema.th"
    imported = import_checkpoint(form(name), path, tmp_path / "run")
    own = open_run(tmp_path / "run").model.backbone.state_dict()
    assert list(own) == list(weights(name))  # the published names are ours
    exported = export_checkpoint("vdvae", tmp_path / "run", tmp_path)
    assert exported.path == tmp_path / "iter-0-model-ema.th"
    before, after = weights(name), foreign.load(exported.path, ())
    assert difference(before, after) is None
    assert difference(before._metadata, after._metadata) is None
    assert exported.reader.read((file(weights(name)),)).experiment.backbone == imported.converted.experiment.backbone


def test_a_file_of_another_order_comes_back_in_its_order():
    content = OrderedDict(reversed(weights("tiny_cifar").items()))
    converted = read(file(content), name="tiny_cifar")
    assert difference(content, form("tiny_cifar").write(converted).content) is None


def test_the_weights_of_the_last_step_lose_their_prefix_and_are_written_without_it():
    converted = read(trained("model"))
    assert list(converted.backbone) == list(weights("tiny_ffhq256"))
    assert any("'module' of DataParallel or DDP" in note for note in converted.notes)
    assert any("its name does not say that it holds the averaged weights" in note for note in converted.notes)
    written = form().write(converted)
    assert (written.name, list(written.content)) == ("iter-7-model-ema.th", list(weights("tiny_ffhq256")))


def test_averaged_weights_are_used_whatever_the_order_of_the_files(tmp_path):
    files = [TRAINED / f"iter-7-{kind}.th" for kind in ("opt", "model", "model-ema")]
    converted = import_checkpoint(form(), files, tmp_path / "run").converted
    expected = trained("model-ema").content
    assert all(torch.equal(converted.backbone[name], expected[name]) for name in expected)
    assert "iter-7-model-ema.th is used, the averaged weights (EMA); iter-7-model.th is not" in converted.notes
    run = open_run(tmp_path / "run")
    assert run.model.sample(2).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_precisions_are_converted_with_a_note(dtype):
    content = OrderedDict((name, value.to(dtype)) for name, value in weights("tiny_ffhq256").items())
    converted = read(file(content))
    assert {value.dtype for value in converted.backbone.values()} == {torch.float32}
    assert any("converted to float32" in note for note in converted.notes)


# ---------------------------------------------------------------- the step


def test_the_step_is_that_of_the_names():
    converted = read(trained("model-ema"))
    assert (converted.step, converted.experiment.train.backbone.steps) == (7, 7)


def renamed(given, name):
    return attrs.evolve(given, name=name)


@pytest.mark.parametrize(
    ("others", "step", "said"),
    [
        ((renamed(trained("opt"), "opt.th"), renamed(log(), "log.jsonl")), 6, "the number of the optimiser's updates"),
        ((renamed(log(), "log.jsonl"),), 9, "the last one of the log"),
        ((), 0, "unknown, and set to 0"),
    ],
)
def test_without_it_the_step_is_that_of_the_optimiser_or_the_log_or_0_with_a_note(others, step, said):
    converted = read(renamed(trained("model-ema"), "model-ema.th"), *others)
    assert converted.step == step
    assert any(said in note for note in converted.notes)


# ---------------------------------------------------------------- the optimiser


def test_moments_have_our_names_and_the_published_norms():
    converted = read(trained("model-ema"), trained("opt"))
    expected = json.loads((VECTORS / "tiny_ffhq256" / "expected.json").read_text())["train"]
    for key in ("exp_avg", "exp_avg_sq"):
        found = [converted.moments[f"{name}/{key}"].double().norm().item() for name in converted.backbone]
        assert found == pytest.approx(expected[f"{key}_l2"], abs=1e-6)
    assert {converted.moments[f"{name}/step"].item() for name in converted.backbone} == {expected["adam_step"]}


def test_they_are_the_moments_of_the_same_parameters_in_our_optimiser():
    converted = read(trained("model-ema"), trained("opt"))
    model = build(converted.experiment, converted.images)
    (phase,) = [p for p in converted.experiment.train.phases(model.backbone, model.prior) if p.name == "backbone"]
    (group,) = phase.groups.values()
    parameters = group.parameters()
    assert {key.rpartition("/")[0] for key in converted.moments} == set(parameters)
    for name, parameter in parameters.items():
        assert converted.moments[f"{name}/exp_avg"].shape == parameter.shape


def with_ids(content):
    """The optimiser as an older torch wrote it: with ids of objects, in a state of another order."""
    ids = {k: 140_000_000_000 + 64 * ((7 * k) % 1000) for k in content["param_groups"][0]["params"]}
    state = {ids[k]: entry for k, entry in sorted(content["state"].items(), key=lambda item: ids[item[0]])}
    return {"state": state, "param_groups": [{**content["param_groups"][0], "params": list(ids.values())}]}


def of_torch(content):
    """The optimiser as torch's AdamW writes it: with the step of each parameter."""
    state = {k: {"step": torch.tensor(6.0), **entry} for k, entry in content["state"].items()}
    group = {key: value for key, value in content["param_groups"][0].items() if key != "step"}
    return {"state": state, "param_groups": [group]}


@pytest.mark.parametrize("written", [with_ids, of_torch])
def test_the_optimiser_may_be_written_by_another_torch(written):
    opt = trained("opt")
    converted = read(trained("model-ema"), attrs.evolve(opt, content=written(opt.content)))
    expected = read(trained("model-ema"), opt).moments
    assert converted.moments.keys() == expected.keys()
    assert all(torch.equal(converted.moments[key], expected[key]) for key in expected)


def misshapen(content):
    return {**content, "state": {**content["state"], 3: {key: torch.ones(1) for key in ("exp_avg", "exp_avg_sq")}}}


def without_steps(content):
    return {**content, "param_groups": [{"params": content["param_groups"][0]["params"]}]}


def shorter(content):
    return {**content, "param_groups": [{**content["param_groups"][0], "params": [0, 1]}]}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (misshapen, r"other names or shapes than the weights: encoder\.enc_blocks\.0\.c1\.bias"),
        (without_steps, "other names or shapes than the weights"),
        (shorter, "has 2 parameters, but the weights have 178"),
    ],
)
def test_an_optimiser_of_another_model_is_an_error(damage, said):
    opt = trained("opt")
    with pytest.raises(CheckpointError, match=said):
        read(trained("model-ema"), attrs.evolve(opt, content=damage(opt.content)))


# ---------------------------------------------------------------- the experiment


def test_the_training_of_a_published_model_is_its_preset():
    converted = VDVAECheckpoint().read((file(like(manifest("cifar10")), "cifar10-seed0-iter-900000-model-ema.th"),))
    found, data = converted.experiment.train.backbone, converted.experiment.data
    assert (found.optimizer, found.learning_rate, found.betas, found.epsilon) == ("adamw", 2e-4, (0.9, 0.9), 1e-8)
    assert (found.weight_decay, found.warmup, found.warmup_from_zero, found.schedule) == (0.01, 100, True, "constant")
    assert (converted.experiment.train.unit, found.clip, found.skip_above) == ("nats/dim", 200, 400)
    assert (found.ema, found.ema_warmup, found.steps) == (0.9999, False, 900_000)
    assert (type(data).__name__, data.batch_size, data.flip) == ("CIFAR10", 32, False)


@pytest.mark.parametrize(("preset", "file"), BENCHMARKS.items())
def test_an_imported_experiment_is_that_of_the_benchmark(preset, file):
    expected = Experiment.load(Path(__file__).parents[4] / "benchmarks" / "vdvae" / file)
    recipe, side = VDVAE(**PRESETS[preset].backbone), PRESETS[preset].side
    steps = expected.train.backbone.steps
    checkpoint = Checkpoint("model-ema.th", OrderedDict(), None, None, steps, ())
    found, _ = experiment_of(checkpoint, Configuration(recipe, ImageSpec(3, side, side), preset, preset, ()))
    assert found.backbone == expected.backbone
    assert (found.train.backbone, found.train.unit) == (expected.train.backbone, expected.train.unit)
    assert (type(found.data), found.data.batch_size) == (type(expected.data), expected.data.batch_size)


def test_a_file_with_the_name_of_another_model_is_imported_by_its_shapes_with_a_note():
    converted = VDVAECheckpoint().read((file(like(manifest("ffhq256")), "ffhq1024-iter-1700000-model-ema.th"),))
    assert converted.images == ImageSpec(3, 256, 256)
    said = "ffhq1024-iter-1700000-model-ema.th is called ffhq1024, but its weights have the shapes of ffhq256"
    assert converted.notes[0].startswith(said)
    data = converted.experiment.data
    assert (type(data).__name__, data.root, data.size, data.channels) == ("ImageFolder", "data/ffhq256", 256, 3)
    assert any("data.root = 'data/ffhq256' is a guess" in note for note in converted.notes)


LOGGED = {"cifar10": "cifar10", "imagenet32": "imagenet32", "ffhq256": "ffhq_256", "ffhq1024": "ffhq_1024"}


@pytest.mark.parametrize(("preset", "data_set"), LOGGED.items())
def test_a_published_model_with_its_log_keeps_its_preset_the_total_batch_and_the_note_on_its_name(preset, data_set):
    keys = PRESETS[preset].backbone
    settings = {"enc_blocks": keys["encoder"], "dec_blocks": keys["decoder"], "dataset": data_set, "n_batch": 1}
    files = (file(like(manifest(preset)), "imagenet64-iter-7-model-ema.th"), log(**settings))
    converted = VDVAECheckpoint().read(files)
    assert converted.experiment.backbone == VDVAE(**keys)
    assert converted.experiment.data.batch_size == PRESETS[preset].batch_size
    assert converted.notes[0].startswith(f"{files[0].name} is called imagenet64, but its weights have the shapes of")


def test_the_batch_of_another_models_log_is_said_to_be_that_of_one_gpu():
    converted = VDVAECheckpoint().read((trained("model-ema"), log()))
    assert converted.experiment.data.batch_size == 4
    assert any("is the log's n_batch, which counts the images on one GPU" in note for note in converted.notes)


@pytest.mark.parametrize("given", [{"input_mean": 100.0, "input_std": 50.0}, {"normalisation": "cifar10"}])
def test_a_fine_tuned_model_of_ffhq256_keeps_its_five_bits(given):
    weights = file(like(manifest("ffhq256")))
    for form in (VDVAECheckpoint(**given), VDVAECheckpoint(preset="ffhq256", **given)):
        converted = form.read((weights,))
        assert converted.experiment.backbone.bits == 5
        assert any("256x256 pixels and 5 bits are assumed" in note for note in converted.notes)
    assert VDVAECheckpoint(bits=8, **given).read((weights,)).experiment.backbone.bits == 8


def test_own_constants_with_a_log_of_ffhq256_keep_its_five_bits():
    converted = VDVAECheckpoint(input_mean=100.0, input_std=50.0).read((trained("model-ema"), log()))
    assert converted.experiment.backbone.bits == 5


def test_one_string_of_its_own_for_the_shapes_of_a_published_model_is_an_error_that_names_the_model():
    with pytest.raises(CheckpointError, match="the layer strings are not those of cifar10, whose shapes the weights"):
        VDVAECheckpoint(encoder="32x1").read((file(like(manifest("cifar10"))),))


@pytest.mark.parametrize(("name", "averaged"), [("iter-7-model-ema.th", True), ("schema.th", False), ("ema.th", True)])
def test_averaged_weights_are_known_by_a_word_of_the_name(name, averaged):
    notes = read(file(weights("tiny_ffhq256"), name)).notes
    assert averaged != any("does not say that it holds the averaged weights" in note for note in notes)


def test_the_optimiser_tells_settings_of_another_model():
    found = read(trained("model-ema"), trained("opt"))
    assert (found.experiment.train.backbone.learning_rate, found.experiment.train.backbone.betas) == (2e-4, (0.9, 0.9))
    assert any("all but those of the optimiser's file" in note for note in found.notes)
    assert any("the settings of the training are unknown; all are" in note for note in read(trained("model-ema")).notes)


def test_a_log_has_everything():
    converted = VDVAECheckpoint().read((trained("model-ema"), log()))
    assert converted.experiment.backbone == read(trained("model-ema")).experiment.backbone
    phase = converted.experiment.train.backbone
    assert (phase.learning_rate, phase.weight_decay, phase.skip_above) == (1e-3, 0.02, 0)  # -1 switches it off
    assert converted.experiment.data.batch_size == 4
    assert not any("unknown" in note for note in converted.notes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"enc_blocks": "16d4,4x1,4d4,1x3"}, "encoder: the string has 6 blocks, the weights have 5"),
        ({"enc_blocks": "1x9999," * 1000}, "more than 5,000 characters"),
        ({"lr": -1.0}, "the training of this checkpoint is not supported"),
        ({"lr": 10**400}, "lr of the log is not a finite number"),
        ({"n_batch": float("nan")}, "n_batch of the log is not a finite number"),
        ({"dataset": "mine"}, "--normalisation"),
    ],
)
def test_a_log_that_does_not_fit_is_an_error(changes, said):
    with pytest.raises(CheckpointError, match=said):
        VDVAECheckpoint().read((trained("model-ema"), log(**changes)))


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((trained("opt"),), "no file with weights was given; the files of a checkpoint are iter-N-model-ema.th"),
        ((trained("model"), renamed(trained("model"), "b.th")), "iter-7-model.th and b.th both hold the weights"),
        ((trained("model"), trained("opt"), trained("opt")), "both hold the optimiser's state"),
        ((trained("model"), log(), log()), "both hold a log"),
        ((trained("model"), renamed(trained("opt"), "iter-8-opt.th")), "different steps: iter-7-model.th, iter-8-opt"),
        ((trained("model"), attrs.evolve(log(), content="{}\nx")), "iter-7-log.jsonl:2: is not a JSON object"),
        ((file({"state_dict": {}}),), "a dict of state_dict, not a state dict"),
        ((file([1]),), "it holds a list, not a state dict"),
    ],
)
def test_files_that_are_not_one_checkpoint_are_an_error(files, said):
    with pytest.raises(CheckpointError, match=said):
        read(*files)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"preset": "cifar10", "encoder": "32x1"}, "has its own layer strings"),
        ({"input_mean": 1.0}, "both input_mean and input_std"),
        ({"input_mean": 1.0, "input_std": 1.0, "normalisation": "cifar10"}, "either normalisation or input_mean"),
    ],
)
def test_options_that_exclude_each_other_are_an_error(wrong, said):
    with pytest.raises(ConfigError, match=said):
        VDVAECheckpoint(**wrong)


def run_of(backbone, images):
    """A run of hebm with this backbone, without training."""
    table = {"data": {"type": "digits"}, "backbone": backbone, "prior": {"type": "gaussian"}}
    experiment = Experiment.from_table(table)
    return ConvertedCheckpoint(experiment, images, build(experiment, images).backbone.state_dict(), step=3)


TINY_VDVAE = {"type": "vdvae-tiny", "width": 4, "latent_channels": 2}


@pytest.mark.parametrize(
    ("backbone", "images", "said"),
    [
        (TINY_VDVAE, ImageSpec(1, 8, 8), "only colour images; these are images of 1 channels"),
        (TINY_VDVAE, ImageSpec(3, 8, 8, binary=True), "only colour images; these are binary"),
        ({**TINY_VDVAE, "likelihood": "gaussian"}, ImageSpec(3, 8, 8), "only the likelihood logistic-mixture"),
        ({**TINY_VDVAE, "bits": 6}, ImageSpec(3, 8, 8), "supports 5 and 8 bits per colour; the run has 6"),
        ({"type": "two-layer"}, ImageSpec(3, 8, 8), "supports only vdvae"),
    ],
)
def test_what_the_published_code_does_not_have_is_not_written(backbone, images, said):
    with pytest.raises(CheckpointError, match=said):
        VDVAECheckpoint().write(run_of(backbone, images))


def test_a_run_of_hebm_is_read_again_by_the_options_of_its_export():
    run = run_of(TINY_VDVAE, ImageSpec(3, 8, 8))
    run.backbone["normalisation.mean"].fill_(100.0)
    written, reader = VDVAECheckpoint().write(run), VDVAECheckpoint().reading(run)
    assert not [name for name in written.content if name.startswith("normalisation")]
    again = reader.read((written,))
    assert (again.experiment.backbone.input_mean, again.experiment.backbone.input_std) == (100.0, 127.5)
    assert again.experiment.backbone.structure(8) == run.experiment.backbone.structure(8)


def test_a_published_configuration_is_read_again_by_its_preset():
    preset = run_of({"type": "two-layer"}, ImageSpec(3, 8, 8))
    experiment = attrs.evolve(preset.experiment, backbone=VDVAE(normalisation="cifar10"))
    reader = VDVAECheckpoint().reading(attrs.evolve(preset, experiment=experiment))
    assert reader == VDVAECheckpoint(preset="cifar10")


def test_a_backbone_of_another_version_is_not_written():
    run = run_of(TINY_VDVAE, ImageSpec(3, 8, 8))
    weights = {key: value for key, value in run.backbone.items() if key != "decoder.gain"}
    with pytest.raises(CheckpointError, match=r"lacks decoder\.gain"):
        VDVAECheckpoint().write(attrs.evolve(run, backbone=weights))


def test_moments_are_those_of_the_run(tmp_path):
    files = [TRAINED / f"iter-7-{kind}.th" for kind in ("model-ema", "opt")]
    imported = import_checkpoint(form(), files, tmp_path / "run")
    run_id = imported.folder.read().manifest["run_id"]
    stored = checkpoints.load_latest(imported.folder.checkpoints, run_id, print).tensors["optimizer-backbone"]
    assert len(stored) == 3 * 178


def test_every_data_set_of_the_vectors_has_constants():
    assert set(DATA_SETS) == {config(name)["dataset"] for name in TINY}
