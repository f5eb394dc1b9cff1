"""Official checkpoints: in strictly, out exactly; every bad one is a clear error and leaves nothing behind."""

import argparse
import json
import os
from collections import OrderedDict
from pathlib import PurePosixPath

import attrs
import numpy as np
import pytest
import torch
from official_files import TINY, content, difference, edited, trained
from safetensors.torch import load_file

from hebm.errors import CheckpointError
from hebm.porting import ForeignFile, export_checkpoint, import_checkpoint
from hebm.runs import open_run
from hebm.store import checkpoints, foreign
from hebm.store.checkpoints import Checkpoint
from hebm.store.run_folder import RunFolder
from hebm_plugins.nvae.official.checkpoint import NVAECheckpoint
from hebm_plugins.nvae.official.names import official_names

CONV = "dec_tower.1._ops.0.conv.1.conv.0"
WN_ALIAS = "stem.weight_normalized"


def read(found):
    """The converted checkpoint of a content."""
    return NVAECheckpoint().read((ForeignFile("checkpoint.pt", found),))


def through(found, folder):
    """The content after a file, an import, an export, a file."""
    torch.save(found, folder / "in.pt")
    imported = import_checkpoint("nvae", folder / "in.pt", folder / "run")
    export_checkpoint("nvae", folder / "run", folder / "out.pt")
    return imported, foreign.load(folder / "out.pt", (argparse.Namespace,))


@pytest.mark.parametrize("name", TINY)
def test_the_weights_are_the_files_under_our_names(name, tmp_path):
    model = import_checkpoint("nvae", TINY[name], tmp_path / "run").model
    expected = load_file(TINY[name].with_name("state_dict.safetensors"))
    found, own = official_names(model.backbone), open_run(tmp_path / "run").model.backbone.state_dict()
    assert list(found.values()) == [key for key in content(name)["state_dict"] if not key.endswith("_normalized")]
    assert all(torch.equal(own[ours], expected[theirs]) for ours, theirs in found.items())
    assert set(found.values()) == set(expected)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("state", ["empty", "int", "tensor"])
def test_import_and_export_give_the_same_content_bit_for_bit(name, state, tmp_path):
    found = content(name) if state == "empty" else trained(name, tensor_step=state == "tensor")
    imported, back = through(found, tmp_path)
    assert difference(found, back) is None
    assert len(imported.converted.moments) == 3 * len(found["optimizer"]["state"])
    assert len(imported.converted.notes) == 2  # of the licence, and which weights are used


def test_an_alias_shares_its_weights_memory_in_the_written_file(tmp_path):
    """A file is not larger than the published one."""
    _, back = through(content("tiny_cifar"), tmp_path)
    state = back["state_dict"]
    assert state[f"{CONV}.weight_normalized"].data_ptr() == state[f"{CONV}.weight"].data_ptr()


@pytest.mark.parametrize("changes", [{WN_ALIAS: torch.ones(3, 3, 3, 3)}, {f"{CONV}.weight_normalized": None}])
def test_old_files_may_carry_or_lack_aliases_and_get_back_theirs(changes, tmp_path):
    found = edited(content("tiny_cifar"), **changes)
    imported, back = through(found, tmp_path)
    assert difference(found, back) is None
    assert not [key for key in imported.converted.backbone if "normalized" in key]


def test_what_newer_code_adds_is_carried(tmp_path):
    found = content(a_new_argument=[1, None, {"x": 2.5}])
    found |= {"ema": {"decay": 0.9, "shadow": [torch.ones(2)]}}
    _, back = through(found, tmp_path)
    assert difference(found, back) is None


def test_a_file_with_the_least_that_is_needed_is_taken(tmp_path):
    found = {key: content()[key] for key in ("args", "state_dict")}
    imported, back = through(found, tmp_path)
    assert difference(found, back) is None
    assert imported.converted.step == 0


def test_an_optimiser_of_unknown_form_is_kept_and_said(tmp_path):
    found = content()
    found["optimizer"]["state"] = {0: {"step": 1, "stacked": torch.ones(3)}}
    imported, back = through(found, tmp_path)
    assert difference(found, back) is None
    assert imported.converted.moments == {}
    assert "unknown format" in imported.converted.notes[1]


def test_a_run_that_trained_on_is_written_with_its_step_and_moments(tmp_path):
    torch.save(trained(), tmp_path / "in.pt")
    imported = import_checkpoint("nvae", tmp_path / "in.pt", tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    run_id = folder.read().manifest["run_id"]
    last = checkpoints.load_latest(folder.checkpoints, run_id, print)
    tensors = {k: {n: t + 1 for n, t in named.items()} for k, named in last.tensors.items()}
    checkpoints.save(folder.checkpoints, Checkpoint("backbone", 78001, 78001, tensors, last.state), 2, run_id)
    export_checkpoint("nvae", folder.path, tmp_path / "out.pt")
    back, before = foreign.load(tmp_path / "out.pt", (argparse.Namespace,)), trained()
    assert (back["global_step"], back["args"]) == (78001, before["args"])
    assert back["optimizer"]["state"][3]["step"] == 78001
    assert torch.equal(back["optimizer"]["state"][3]["exp_inf"], before["optimizer"]["state"][3]["exp_inf"] + 1)
    assert torch.equal(back["state_dict"]["stem.weight"], before["state_dict"]["stem.weight"] + 1)
    assert imported.converted.step == 78000


def test_what_write_makes_without_leftovers_is_read_as_the_same_model():
    """A run that was trained here has no file to go back to."""
    converted = read(trained("tiny_cifar"))
    written = NVAECheckpoint().write(attrs.evolve(converted, leftovers=None, step=9)).content
    again = read(written)
    assert (again.experiment.backbone, again.images, again.step) == (converted.experiment.backbone, converted.images, 9)
    assert difference(dict(again.backbone), dict(converted.backbone)) is None
    assert set(again.moments) == set(converted.moments)
    published = content("tiny_cifar")
    assert list(written) == list(published)
    assert written["arch_instance"] == published["arch_instance"]
    assert list(written["state_dict"]) == list(published["state_dict"])
    assert written["optimizer"]["param_groups"][0]["params"] == published["optimizer"]["param_groups"][0]["params"]


def test_a_backbone_of_another_version_is_not_written():
    converted = read(content())
    weights = {key: value for key, value in converted.backbone.items() if key != "encoder.stem.bias"}
    with pytest.raises(CheckpointError, match=r"lacks encoder\.stem\.bias"):
        NVAECheckpoint().write(attrs.evolve(converted, backbone=weights))


# ---------------------------------------------------------------- as people have them


def halved(found):
    return {**found, "state_dict": OrderedDict((key, value.half()) for key, value in found["state_dict"].items())}


def renamed(found, prefix):
    return {**found, "state_dict": OrderedDict((f"{prefix}{k}", v) for k, v in found["state_dict"].items())}


AS_PEOPLE_HAVE_THEM = {
    "a wrapped model": (lambda found: renamed(found, "module._orig_mod."), "DataParallel or DDP"),
    "half precision": (halved, "weights are float16: converted to float32"),
    "a path": (lambda found: with_args(found, save=PurePosixPath("a/b")), "pathlib.PurePosixPath"),
    "a number of NumPy": (lambda found: with_args(found, learning_rate=np.float64(0.01)), "numpy.float64"),
    "numbers as tensors": (lambda found: with_args(found, num_groups_per_scale=torch.tensor([2])), "EMA"),
    "a step as a tensor": (lambda found: {**found, "global_step": torch.tensor(78000)}, "EMA"),
    "a step as a float": (lambda found: {**found, "global_step": 78000.0}, "EMA"),
    "an epoch of NumPy": (lambda found: {**found, "epoch": np.int64(3)}, "numpy.int64"),
    "averages": (lambda found: {**found, "ema_state_dict": {}}, "'ema_state_dict' has averaged weights"),
}


def with_args(found, **args):
    vars(found["args"]).update(args)
    return found


@pytest.mark.parametrize("kind", AS_PEOPLE_HAVE_THEM)
def test_files_as_people_have_them_are_imported_with_a_note(kind, tmp_path):
    change, said = AS_PEOPLE_HAVE_THEM[kind]
    plain, _ = through(content(), tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    imported, back = through(change(content()), other)
    assert any(said in note for note in imported.converted.notes), imported.converted.notes
    assert imported.converted.step == 78000
    assert list(back["state_dict"]) == list(content()["state_dict"])
    tolerance = 1e-3 if kind == "half precision" else 0
    own, expected = imported.model.backbone.state_dict(), plain.model.backbone.state_dict()
    for name in expected:
        torch.testing.assert_close(own[name], expected[name], rtol=tolerance, atol=tolerance)


def test_counts_of_batches_that_half_precision_cannot_hold_are_zero_with_a_note(tmp_path):
    found = content()
    counts = [key for key in found["state_dict"] if key.endswith("num_batches_tracked")]
    found["state_dict"][counts[0]].fill_(70_000)
    found["state_dict"][counts[1]].fill_(64)
    imported, back = through(halved(found), tmp_path)
    assert (back["state_dict"][counts[0]].item(), back["state_dict"][counts[1]].item()) == (0, 64)
    note = f"{len(counts)} counts of batches (num_batches_tracked) were floats; converted to integers, 1 infinite to 0"
    assert any(line.startswith(note) for line in imported.converted.notes)


@pytest.mark.parametrize(
    ("name", "shape", "pad", "said"),
    [("tiny_cifar", (3, 32, 32), 0, " 3x32x32"), ("tiny_mnist", (1, 28, 28), 2, "binary 1x28x28")],
)
def test_the_weights_say_what_the_images_of_ones_own_data_set_are(name, shape, pad, said):
    found = read(content(name, dataset="my faces/2"))
    data = found.experiment.data
    assert found.images.shape == shape
    assert (type(data).__name__, data.root, data.size, data.channels) == (
        "ImageFolder",
        "data/my_faces_2",
        shape[1],
        shape[0],
    )
    assert (found.experiment.backbone.pad, data.binarize) == (pad, "both" if pad else "off")
    (note,) = (note for note in found.notes if "'my faces/2'" in note)
    assert said in note
    assert "set data.root" in note


def test_without_the_weights_that_say_it_an_unknown_data_set_is_an_error():
    found = edited(content("tiny_cifar", dataset="my_faces"), prior_ftr0=None)
    with pytest.raises(CheckpointError, match=r"dataset = 'my_faces' is unknown; allowed are mnist.*prior_ftr0"):
        read(found)


# ---------------------------------------------------------------- bad files


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


BAD = {
    "another kind": lambda found: [1, 2],
    "weights alone": lambda found: found["state_dict"],
    "without args": lambda found: {key: found[key] for key in found if key != "args"},
    "args as a dict": lambda found: {**found, "args": vars(found["args"])},
    "another code's": lambda found: {"model": found["state_dict"], "epoch": 3},
    "a step that is none": lambda found: {**found, "global_step": -1},
    "a missing key": lambda found: edited(found, **{"stem.bias": None}),
    "a surplus key": lambda found: edited(found, **{"module.stem.bias": torch.ones(2)}),
    "another shape": lambda found: edited(found, **{"stem.bias": torch.ones(3)}),
    "no tensor": lambda found: edited(found, **{"stem.bias": [0.0, 0.0]}),
    "an integer tensor": lambda found: edited(found, **{"stem.bias": torch.ones(2, dtype=torch.int32)}),
    "a sparse tensor": lambda found: edited(found, **{"stem.bias": torch.ones(2).to_sparse()}),
    "another model's args": lambda found: {**found, "args": content("tiny_cifar")["args"]},
    "args that make no model": lambda found: {**found, "args": argparse.Namespace(num_latent_scales="two")},
    "args of a giant": lambda found: {
        **found,
        "args": argparse.Namespace(num_latent_scales=3, num_groups_per_scale=999),
    },
    "a value that cannot be kept": lambda found: {**found, "scheduler": {"when": 1j}},
}
SAID = {
    "another kind": "not an NVAE checkpoint: it holds a list",
    "weights alone": "weights alone, without the arguments",
    "without args": "not an NVAE checkpoint",
    "args as a dict": "not an NVAE checkpoint",
    "another code's": r"something else \(model, epoch\)",
    "a step that is none": "global_step is -1",
    "a missing key": r"do not fit.*\n  missing: stem\.bias$",
    "a surplus key": r"do not fit.*\n  surplus: module\.stem\.bias$",
    "another shape": r"other shape: stem\.bias \(3,\), expected \(2,\)$",
    "no tensor": r"not a tensor: stem\.bias$",
    "an integer tensor": r"other type: stem\.bias torch\.int32",
    "a sparse tensor": r"other type: stem\.bias .*sparse",
    "another model's args": r"missing: [\s\S]*surplus: [\s\S]*other shape: ",
    "args that make no model": "checkpoint's args",
    "args of a giant": r"at least \d+ parts",
    "a value that cannot be kept": r"/content/scheduler/when is a builtins\.complex",
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_a_clear_error_and_nothing_is_written(kind, tmp_path):
    path = tmp_path / "in.pt"
    torch.save(BAD[kind](content()), path)
    with pytest.raises(CheckpointError, match=SAID[kind]):
        import_checkpoint("nvae", path, tmp_path / "runs" / "x")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("where", ["args", "state_dict", "optimizer", "extra"])
def test_a_file_that_would_run_code_does_not_and_nothing_is_written(where, tmp_path):
    path, evil = tmp_path / "in.pt", Evil(tmp_path / "owned")
    found = content()
    bad = argparse.Namespace(**vars(found["args"]), evil=evil) if where == "args" else evil
    torch.save({**found, where: bad}, path)
    with pytest.raises(CheckpointError, match="Nothing of it was run"):
        import_checkpoint("nvae", path, tmp_path / "run")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("length", [0, 100, 10_000, 300_000])
def test_a_truncated_file_is_a_clear_error_and_nothing_is_written(length, tmp_path):
    path = tmp_path / "in.pt"
    path.write_bytes(TINY["tiny_mnist"].read_bytes()[:length])
    with pytest.raises(CheckpointError, match=r"damaged|no checkpoint"):
        import_checkpoint("nvae", path, tmp_path / "run")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("entry", ["epoch", "global_step", "scheduler", "args", "optimizer", "state_dict"])
def test_the_comparison_of_contents_would_see_a_change(entry):
    found, other = trained(), trained()
    other[entry] = {
        "args": lambda: argparse.Namespace(**{**vars(other["args"]), "seed": 2}),
        "scheduler": lambda: dict(reversed(other["scheduler"].items())),
        "optimizer": lambda: {**other["optimizer"], "state": {**other["optimizer"]["state"], 5: {}}},
        "state_dict": lambda: edited(other, **{"stem.bias": other["state_dict"]["stem.bias"] + 1})["state_dict"],
    }.get(entry, lambda: float(other[entry]))()
    assert difference(found, other).startswith(f"/{entry}")


def test_the_arguments_of_a_file_are_those_beside_it():
    for path in TINY.values():
        assert vars(content(path.parent.name)["args"]) == json.loads(path.with_name("args.json").read_text())
