"""One way to open a run, from wherever hebm is started and wherever the run was moved to."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
import torch
from real_runs import differences, hebm, newest, tiny, train, write_config

from hebm.config.experiment import Experiment
from hebm.config.paths import located, paths_of
from hebm.errors import CheckpointError, ConfigError
from hebm.interfaces import ImageSpec
from hebm.registry import find
from hebm.stored_runs import read_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "tiny"
    assert train(tiny(), folder)
    return folder


def test_an_opened_run_says_what_it_is_and_gives_its_weights(run):
    opened = read_run(run)
    assert opened.folder.path == run
    assert opened.experiment == Experiment.load(run / "config.toml")
    assert opened.images == ImageSpec(1, 8, 8, tuple("0123456789"), True)
    assert opened.results is None
    model, weights = opened.build_model(), opened.weights()
    assert all(torch.equal(value, weights["prior"][name]) for name, value in model.prior.state_dict().items())
    average = newest(run).tensors["prior-ema"]
    assert all(torch.equal(value, average[f"module.{name}"]) for name, value in weights["prior"].items())


def test_only_what_decided_no_weight_can_be_set(run):
    assert read_run(run, ["evaluate.samples=64"]).experiment.evaluate.samples == 64
    with pytest.raises(ConfigError, match=r"prior\.sampler\.steps: 3 → 4"):
        _ = read_run(run, ["prior.sampler.steps=4"]).experiment


def test_a_folder_that_is_not_a_run_is_named(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(CheckpointError, match=f"{folder} is not a run folder"):
            read_run(folder)


def test_a_damaged_checkpoint_that_was_passed_over_is_said(run, tmp_path):
    copy, said = shutil.copytree(run, tmp_path / "tiny"), []
    (copy / "checkpoints" / "step-00000012" / "prior.safetensors").write_bytes(b"")
    read_run(copy, warn=said.append, allow_unfinished=True).build_model()
    assert "prior.safetensors" in said[0]
    with pytest.raises(CheckpointError, match="is unfinished: it is at step 2 of 6"):  # the one before is not the end
        read_run(copy).build_model()


def test_a_run_that_seems_unfinished_as_its_last_checkpoint_is_damaged_says_so(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "tiny")
    (copy / "checkpoints" / "step-00000012" / "manifest.json").write_bytes(b"{}")
    said = r"at step 2 of 6 in phase 'prior', and newer checkpoints are damaged \(.*step-00000012: manifest\.json"
    with pytest.raises(CheckpointError, match=said):
        read_run(copy).require_finished()
    (copy / "checkpoints" / "step-00000008" / "manifest.json").write_bytes(b"{}")
    with pytest.raises(CheckpointError, match=r"no checkpoint yet, and newer checkpoints are damaged"):
        read_run(copy).require_finished()


def test_a_checkpoint_that_names_a_file_outside_itself_opens_none(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "tiny")
    os.mkfifo(tmp_path / "outside.safetensors")  # opening it would never return
    for path in (copy / "checkpoints").iterdir():
        manifest = json.loads((path / "manifest.json").read_text())
        manifest["files"]["../../../outside.safetensors"] = {"size": 1, "sha256": "0" * 64}
        text = json.dumps(manifest)
        (path / "manifest.json").write_text(text)
        (path / "manifest.sha256").write_text(f"{hashlib.sha256(text.encode()).hexdigest()}  manifest.json\n")
    with pytest.raises(CheckpointError, match=r"lists '\.\./.*not a file name of a checkpoint"):
        read_run(copy).build_model()


# ---------------------------------------------------------------- moved


def test_home_and_variables_are_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SETS", str(tmp_path))
    folder = find("hebm_datasets", "image-folder")
    for text in ("~/pictures", "$SETS/pictures"):
        assert located(folder(root=text), {}).root == str(tmp_path / "pictures")


def test_keys_that_name_files_are_known(tmp_path):
    assert paths_of(find("hebm_datasets", "image-folder")(root="a", labels="b.csv")) == {"root": "a"}
    arrays = find("hebm_datasets", "arrays")
    assert paths_of(arrays(train="a.npy", test="b.npy")) == {"train": "a.npy", "test": "b.npy"}
    assert paths_of(arrays(path="a.npz", train="x")) == {"path": "a.npz"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with images, a finished run on them, and another that takes its backbone, all named relatively."""
    home = tmp_path / "project"
    home.mkdir()
    monkeypatch.chdir(home)
    draw = np.random.default_rng(0)
    np.savez("digits.npz", train=draw.integers(0, 256, (300, 8, 8), dtype=np.uint8))
    table = tiny(data={"type": "arrays", "path": "digits.npz"}, evaluate={"samples": 64})
    assert train(table, home / "runs" / "base")
    assert train({**table, "train": {**table["train"], "backbone_from": "runs/base"}}, home / "runs" / "next")
    write_config(home, {**table, "name": "base"})
    return home


def test_paths_are_kept_as_written_and_absolute(project):
    places = read_run("runs/next").manifest["paths"]
    assert places["data.path"] == {"written": "digits.npz", "absolute": str(project / "digits.npz")}
    assert places["train.backbone_from"] == {"written": "runs/base", "absolute": str(project / "runs" / "base")}
    assert read_run("runs/next").written.data.path == "digits.npz"


def test_a_run_is_opened_from_another_folder(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (("evaluate",), ("analyse", "temperature")):
        process = hebm(command[0], project / "runs" / "base", *command[1:])
        assert process.status == 0, process.stderr
    assert 'path = "digits.npz"' in (project / "runs" / "base" / "config.toml").read_text()
    assert read_run(project / "runs" / "base").manifest["history"] == []


def test_a_run_goes_on_from_another_folder_by_its_own_configuration(project, tmp_path, monkeypatch):
    table = tiny(data={"type": "arrays", "path": "digits.npz"}, train={"backbone_from": "runs/base"})
    assert not train(table, project / "runs" / "stopped" / "tiny", stop_after=3)
    assert train(table, project / "runs" / "whole" / "tiny")
    monkeypatch.chdir(tmp_path)
    process = hebm("run", project / "runs" / "stopped" / "tiny" / "config.toml")
    assert process.status == 0, process.stderr
    assert differences(project / "runs" / "stopped" / "tiny", project / "runs" / "whole" / "tiny") == []


def test_a_moved_tree_is_found_from_its_new_place(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    assert hebm("evaluate", "runs/base").status == 0


def test_the_error_for_missing_data_shows_the_text_and_both_places(project, tmp_path, monkeypatch):
    (project / "digits.npz").unlink()
    monkeypatch.chdir(tmp_path)
    process = hebm("evaluate", project / "runs" / "base")
    assert process.status == 1
    here, before = tmp_path / "digits.npz", project / "digits.npz"
    assert f"data.path = 'digits.npz' is {here} here, and was {before} when the run started" in process.stderr
    assert "Traceback" not in process.stderr


def test_the_error_for_a_missing_backbone_shows_the_text_and_where_it_was_looked_for(project, tmp_path):
    table = tiny(train={"backbone_from": "runs/none"})
    with pytest.raises(CheckpointError) as caught:
        train(table, tmp_path / "tiny")
    assert "runs/none is not a run folder: it does not exist" in str(caught.value)
    assert f"train.backbone_from = 'runs/none' is {project / 'runs' / 'none'} here" in str(caught.value)
