"""A model in one file: saved, loaded, and refused where it is damaged or another thing."""

import json

import pytest
import safetensors.torch
import torch
from real_runs import tiny, train

import hebm
from hebm.errors import CheckpointError, ConfigError, PluginError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "tiny"
    assert train(tiny(), folder)
    return hebm.open_run(folder).model


@pytest.fixture
def file(model, tmp_path):
    model.save(tmp_path / "tiny.hebm")
    return tmp_path / "tiny.hebm"


def rewritten(file, **metadata):
    """The same file with other metadata."""
    with safetensors.safe_open(file, framework="pt") as opened:
        before = json.loads(opened.metadata()["hebm"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    safetensors.torch.save_file(tensors, file, {"hebm": json.dumps({**before, **metadata})})


def test_a_loaded_model_is_the_saved_one_bit_for_bit(model, file):
    again = hebm.load(file)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert torch.equal(again.sample(5, seed=3), model.sample(5, seed=3))
    assert again.recipes == model.recipes
    images = model.sample(5)
    assert torch.equal(again.score(images).total, model.score(images).total)
    assert torch.equal(again.preprocess(again.show(images[:1])), model.preprocess(model.show(images[:1])))


def test_saving_again_replaces_the_file_and_gives_the_same_bytes(model, file):
    before = file.read_bytes()
    model.save(file)
    assert file.read_bytes() == before
    hebm.load(file).save(file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["tiny.hebm"]


def test_the_file_is_safetensors_with_the_recipes_as_text(file):
    with safetensors.safe_open(file, framework="pt") as opened:
        table = json.loads(opened.metadata()["hebm"])
        assert "backbone." in next(iter(opened.keys()))
    assert table["format"] == 1
    assert 'type = "joint"' in table["experiment"]
    assert table["images"]["classes"] == list("0123456789")


def test_every_flipped_bit_of_the_weights_is_noticed(file):
    data = bytearray(file.read_bytes())
    for position in (len(data) - 1, len(data) - 1000):
        damaged = bytearray(data)
        damaged[position] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="is damaged: the SHA-256 of its weights differs"):
            hebm.load(file)


@pytest.mark.parametrize("size", [0, 4, 1000, -1])
def test_a_file_that_was_cut_off_is_an_error(file, size):
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(CheckpointError, match="is not a safetensors file, or is damaged"):
        hebm.load(file)


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        (
            {"format": 99},
            CheckpointError,
            "has model format 99, this hebm reads format 1; use the version that wrote it",
        ),
        ({"images": {}}, CheckpointError, "is damaged"),
        ({"images": "junk"}, CheckpointError, "is damaged"),
        ({"experiment": "[prior"}, ConfigError, "is not valid TOML"),
    ],
)
def test_metadata_that_does_not_fit_is_named(file, metadata, error, message):
    rewritten(file, **metadata)
    with pytest.raises(error, match=message):
        hebm.load(file)


def test_a_component_that_is_not_installed_is_named(file):
    with safetensors.safe_open(file, framework="pt") as opened:
        text = json.loads(opened.metadata()["hebm"])["experiment"]
    rewritten(file, experiment=text.replace('type = "joint"', 'type = "of-a-third-party"'))
    with pytest.raises((ConfigError, PluginError), match="of-a-third-party"):
        hebm.load(file)


def test_what_is_not_a_models_file_is_told_apart(tmp_path, file):
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"is not a model's file: .*; give a file that model\.save wrote"):
        hebm.load(tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"is a folder; open a run with hebm\.open_run"):
        hebm.load(tmp_path)
    with pytest.raises(CheckpointError, match=r"read it with hebm\.Experiment\.load"):
        hebm.load("benchmarks/quickstart.toml")
    with pytest.raises(CheckpointError, match="does not exist"):
        hebm.load(tmp_path / "none.hebm")


def test_a_file_that_cannot_be_written_is_an_error_and_leaves_the_old_one(model, tmp_path):
    (tmp_path / "folder.hebm").mkdir()
    with pytest.raises(CheckpointError, match=r"write .*folder\.hebm"):
        model.save(tmp_path / "folder.hebm")
