"""`hebm import`, and all that an imported run is good for, as a user meets it."""

import argparse
import json
import struct
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from real_runs import hebm, newest, steps_saved, write_config

from hebm.cli.import_ import command
from hebm.store import foreign

TINY = Path(__file__).parents[1] / "vectors" / "nvae"


def idx(array):
    header = struct.pack(">BBBB" + "I" * array.ndim, 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder with MNIST's files, of noise."""
    root, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        images, labels = generator.integers(0, 256, (64, 28, 28)), np.arange(64) % 10
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(labels))
    return root


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """(run folder, the process that made it)."""
    run = tmp_path_factory.mktemp("runs") / "mnist"
    return run, hebm("import", "nvae", TINY / "tiny_mnist" / "checkpoint.pt", "-o", run)


def settings(digits):
    words = (f'data.root="{digits}"', "evaluate.metrics=[]", "evaluate.samples=64", 'run.device="cpu"')
    return [part for word in words for part in ("--set", word)]


def test_it_prints_the_configuration_the_size_the_latents_and_the_licence(imported):
    run, process = imported
    assert process.status == 0, process.stderr
    said = process.stdout
    for line in ('architecture = "res_bnelu"', "groups = 2", 'type = "mnist"', 'binarize = "both"', str(run)):
        assert line in said
    assert "parameters  40,200" in said
    assert "2 x (3, 4, 4), 2 x (3, 8, 8), top first; 480 in all" in said
    notes = process.stderr.splitlines()
    assert [note for note in notes if note.startswith("note: weights published by NVIDIA") and "non-commercial" in note]
    assert "note: the file has no averaged weights (EMA); the run uses state_dict of the last step" in notes


def test_the_folder_is_a_run_with_its_configuration_and_one_checkpoint(imported):
    run, _ = imported
    config = tomllib.loads((run / "config.toml").read_text())
    assert (config["name"], config["prior"], config["train"]["type"]) == ("mnist", {"type": "gaussian"}, "two-phase")
    assert config["train"]["backbone"]["steps"] == 78000
    files = {"SHA256SUMS", "config.toml", "manifest.json"}
    assert {path.name for path in run.iterdir()} == {*files, "checkpoints", "imported", "run.lock"}
    assert (steps_saved(run), newest(run).phase) == ([78000], "backbone")
    assert [path.name for path in run.parent.iterdir()] == ["mnist"]


def test_it_is_sampled(imported, tmp_path):
    process = hebm("sample", imported[0], "-n", "3", "-o", tmp_path / "x.npz")
    assert process.status == 0, process.stderr
    assert np.load(tmp_path / "x.npz")["images"].shape == (3, 28, 28, 1)


def test_run_finds_training_over_and_evaluates_and_the_data_are_its_own_from_then_on(imported, digits, tmp_path):
    run = tmp_path / "mnist"
    hebm("import", "nvae", TINY / "tiny_mnist" / "checkpoint.pt", "-o", run)
    cache = tmp_path / "cache"
    process = hebm(
        "run", run / "config.toml", "--runs", tmp_path, *settings(digits), "--set", f"run.cache_folder={cache}"
    )
    assert process.status == 0, process.stderr
    assert not (cache / "memory-formats").exists()  # no steps are left that a faster format could speed up
    assert json.loads((run / "metrics.json").read_text())["conditions"]["n"] == 64
    assert steps_saved(run) == [78000]
    manifest = json.loads((run / "manifest.json").read_text())
    assert (set(manifest["data"]), manifest["history"]) == ({"train", "test"}, [])
    assert manifest["images"]["classes"] == [str(i) for i in range(10)]
    again = hebm("evaluate", run, *settings(digits))
    assert again.status == 0, again.stderr


def test_a_prior_is_trained_on_its_backbone(imported, digits, tmp_path):
    config = tomllib.loads((imported[0] / "config.toml").read_text())
    table = {
        "name": "tilted",
        "data": {**config["data"], "root": str(digits)},
        "backbone": config["backbone"],
        "prior": {"type": "joint", "energy": {"type": "mlp", "width": 4}, "sampler": {"type": "ula", "steps": 1}},
        "train": {"type": "two-phase", "backbone_from": str(imported[0]), "prior": {"steps": 1}},
        "evaluate": {"samples": 64, "metrics": []},
        "run": {"device": "cpu"},
    }
    process = hebm("run", write_config(tmp_path, table), "--runs", tmp_path)
    assert process.status == 0, process.stderr
    own, taken = newest(tmp_path / "tilted").tensors["backbone"], newest(imported[0]).tensors["backbone"]
    assert all((own[name] == taken[name]).all() for name in taken)


def test_an_existing_run_is_refused(imported):
    run, _ = imported
    process = hebm("import", "nvae", TINY / "tiny_cifar" / "checkpoint.pt", "-o", run)
    assert process.status == 1
    assert "exists already" in process.stderr
    assert "mnist" in (run / "config.toml").read_text()


@pytest.mark.parametrize("data", [b"", b"no checkpoint", b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R."])
def test_a_bad_file_is_a_message_without_a_traceback_and_nothing_is_written(data, tmp_path):
    path = tmp_path / "bad.pt"
    path.write_bytes(data)
    process = hebm("import", "nvae", path, "-o", tmp_path / "runs" / "x")
    assert (process.status, process.stdout) == (1, "")
    assert process.stderr.startswith("error: ")
    assert "Traceback" not in process.stderr
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_format_names_those_there_are(tmp_path):
    process = hebm("import", "nave", TINY / "tiny_mnist" / "checkpoint.pt", "-o", tmp_path / "x")
    assert process.status == 2
    assert "did you mean 'nvae'" in process.stderr


def test_ones_own_images_are_given_at_import(tmp_path, capsys):
    found = foreign.load(TINY / "tiny_cifar" / "checkpoint.pt", (argparse.Namespace,))
    found["args"].dataset = "my_faces"
    torch.save(found, tmp_path / "own.pt")
    words = [str(tmp_path / "own.pt"), "-o", str(tmp_path / "run"), "--set", "data.root=/elsewhere/faces"]
    command(["nvae", *words], standalone_mode=False)
    said = capsys.readouterr()
    assert "note: dataset 'my_faces' is not one of the published code" in said.err
    assert 'root = "/elsewhere/faces"' in said.out
    data = tomllib.loads((tmp_path / "run" / "config.toml").read_text())["data"]
    assert (data["type"], data["root"], data["size"], data["channels"]) == ("image-folder", "/elsewhere/faces", 32, 3)
