"""R7: a run folder holds one experiment; a resumed run that differs is refused with the differing keys."""

import json
import os

import pytest
from real_runs import tiny

from hebm.config.experiment import Experiment
from hebm.config.writing import dumps
from hebm.errors import CheckpointError
from hebm.store.changes import config_changes
from hebm.store.run_folder import RunFolder

CONFIG = """
name = "digits"
seed = 0
[data]
type = "digits"
batch_size = 128
workers = 0
root = "data"
[backbone]
type = "two-layer"
z_dims = [2, 10]
[prior]
type = "joint"
[prior.sampler]
type = "ula"
steps = 20
[train]
type = "two-phase"
[train.prior]
steps = 1000
[evaluate]
samples = 1000
[run]
keep = 2
"""
MANIFEST = {
    "hebm": "0.1",
    "plugins": {"other": "0.1", "mine": "1.0"},
    "data": "abc",
    "torch": "2.5",
    "hardware": {"cpus": 2},
}


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "runs" / "digits")
    folder.create_or_open(CONFIG, MANIFEST)
    return folder


def test_a_new_run_has_its_configuration_and_a_manifest_with_an_id(run):
    assert run.config.read_text() == CONFIG
    manifest = json.loads(run.manifest.read_text())
    assert MANIFEST.items() <= manifest.items()
    assert len(manifest["run_id"]) == 32
    assert manifest["format"] == 1
    assert sorted(os.listdir(run.path)) == ["SHA256SUMS", "config.toml", "manifest.json"]


def test_two_runs_have_two_ids(tmp_path, run):
    other = RunFolder(tmp_path / "other").create_or_open(CONFIG, MANIFEST)
    assert other["run_id"] != run.read().manifest["run_id"]


def test_the_same_experiment_is_resumed_with_its_id_and_nothing_is_rewritten(run):
    before = run.manifest.stat().st_mtime_ns, run.config.stat().st_mtime_ns
    assert run.create_or_open(CONFIG, MANIFEST)["run_id"] == run.read().manifest["run_id"]
    assert (run.manifest.stat().st_mtime_ns, run.config.stat().st_mtime_ns) == before


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed = 0", "seed = 1", "seed: 0 → 1"),
        ("steps = 20", "steps = 30", "prior.sampler.steps: 20 → 30"),
        ("z_dims = [2, 10]", "z_dims = [2, 11]", "backbone.z_dims: [2, 10] → [2, 11]"),
        ("batch_size = 128\n", "", "data.batch_size: 128 → (left out)"),
        ("[train.prior]", "[train.prior]\nema = 0.9", "train.prior.ema: (left out) → 0.9"),
        ('type = "ula"', 'type = "mala"', "prior.sampler.type: 'ula' → 'mala'"),
        ("steps = 1000", "steps = 2000", "train.prior.steps: 1000 → 2000"),
    ],
)
def test_a_different_training_key_is_refused_with_old_and_new_and_changes_nothing(run, old, new, said):
    before = run.manifest.read_bytes(), run.config.read_bytes()
    with pytest.raises(CheckpointError) as caught:
        run.create_or_open(CONFIG.replace(old, new), MANIFEST)
    assert [line for line in str(caught.value).splitlines() if line.startswith("  ")] == [f"  {said}"]
    assert "--allow-changes" in str(caught.value)
    assert (run.manifest.read_bytes(), run.config.read_bytes()) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": "xyz"}, "data fingerprint: 'abc' → 'xyz'"),
        ({"plugins": {"other": "0.1", "mine": "1.1"}}, "plugins.mine: '1.0' → '1.1'"),
        ({"plugins": {"other": "0.1"}}, "plugins.mine: '1.0' → (left out)"),
    ],
)
def test_different_data_or_versions_are_refused_with_old_and_new(run, change, said):
    with pytest.raises(CheckpointError) as caught:
        run.create_or_open(CONFIG, {**MANIFEST, **change})
    assert f"\n  {said}\n" in str(caught.value)


def test_all_that_differs_is_said_at_once(run):
    with pytest.raises(CheckpointError) as caught:
        run.create_or_open(CONFIG.replace("seed = 0", "seed = 1").replace("128", "64"), {**MANIFEST, "data": "xyz"})
    assert str(caught.value).count("→") == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("keep = 2", "keep = 5"),
        ("samples = 1000", "samples = 10"),
        ("workers = 0", "workers = 4"),
        ('root = "data"', 'root = "/elsewhere"'),
        ('root = "data"', 'root = "data"\ndownload = false'),
        ('name = "digits"', 'name = "renamed"'),
        ("seed = 0", "seed=0  # the same in other words"),
    ],
)
def test_what_does_not_change_training_may_differ_and_is_written_down(run, old, new):
    run.create_or_open(CONFIG.replace(old, new), MANIFEST)
    assert run.config.read_text() == CONFIG.replace(old, new)


def test_a_key_that_only_begins_like_a_free_one_counts():
    assert config_changes("[data]\nroot_seed = 1", "[data]\nroot_seed = 2") == ["data.root_seed: 1 → 2"]


def test_another_machine_is_allowed_and_recorded(run):
    manifest = run.create_or_open(CONFIG, {**MANIFEST, "torch": "2.6", "hardware": {"cpus": 64}})
    assert manifest["history"] == [["torch: '2.5' → '2.6'", "hardware.cpus: 2 → 64"]]
    assert run.read().manifest == manifest


def test_told_to_go_on_it_does_and_records_what_changed(run):
    run_id = run.read().manifest["run_id"]
    manifest = run.create_or_open(CONFIG.replace("seed = 0", "seed = 1"), {**MANIFEST, "data": "xyz"}, allow=True)
    assert manifest["run_id"] == run_id
    assert manifest["history"] == [["seed: 0 → 1", "data fingerprint: 'abc' → 'xyz'"]]
    run.create_or_open(CONFIG.replace("seed = 0", "seed = 1"), {**MANIFEST, "data": "xyz"})


def test_another_version_of_hebm_is_recorded_and_no_obstacle(run):
    manifest = run.create_or_open(CONFIG, {**MANIFEST, "hebm": "0.2"})
    assert manifest["history"] == [["hebm: '0.1' → '0.2'"]]


def test_checkpoints_without_sums_are_not_taken_for_a_fresh_start(tmp_path):
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    with pytest.raises(CheckpointError, match=r"checkpoints but no SHA256SUMS"):
        run.create_or_open(CONFIG, MANIFEST)


def test_what_a_killed_start_left_is_tidied(tmp_path):
    run = RunFolder(tmp_path)
    run.config.write_text("half a con")
    (tmp_path / ".tmp-manifest.json-77").write_text("{")
    run.create_or_open(CONFIG, MANIFEST)
    assert run.config.read_text() == CONFIG
    assert sorted(os.listdir(tmp_path)) == ["SHA256SUMS", "config.toml", "manifest.json"]


def test_what_a_kill_left_of_a_grid_or_a_pruned_checkpoint_is_tidied(run):
    for path in (run.samples / ".tmp-prior.png-123", run.checkpoints / ".tmp-pruned-step-00000002"):
        path.mkdir(parents=True)
    run.create_or_open(CONFIG, MANIFEST)
    assert [*run.samples.iterdir(), *run.checkpoints.iterdir()] == []


# ---------------------------------------------------------------- R16: what the files hold


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"run_id": 3}', b'{"total": {"shape": "other"}}'])
@pytest.mark.parametrize("name", ["config.toml", "manifest.json", "metrics.json"])
def test_content_of_another_shape_is_named_with_the_way_on_and_nothing_is_written(run, name, content):
    run.write_metrics({"n": 1})
    (run.path / name).write_bytes(content)
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    for open_it in (run.read, lambda: run.create_or_open(CONFIG, MANIFEST)):
        with pytest.raises(CheckpointError) as caught:
            open_it()
        assert str(run.path / name) in str(caught.value)
        assert f"hebm verify {run.path} --accept" in str(caught.value)
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before


def test_a_change_that_was_meant_is_accepted_and_recorded(run):
    run.config.write_text(CONFIG.replace("samples = 1000", "samples = 10"))
    assert run.accept() == ["config.toml"]
    found = run.read()
    assert "samples = 10\n" in found.config
    assert found.manifest["history"] == [["config.toml: changed by hand and accepted"]]
    assert run.accept() == []
    assert run.read().manifest == found.manifest


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.toml", b"seed = ", r"config\.toml is damaged"),
        ("manifest.json", b"[]", r"manifest\.json is damaged"),
        ("manifest.json", b'{"format": 1, "run_id": 3, "history": []}', "run_id must be text, not 3"),
        ("manifest.json", b'{"format": 1, "run_id": "a", "history": 3}', "history must be a list, not 3"),
        ("manifest.json", b'{"format": 1, "run_id": "a"}', "history is missing"),
        (
            "manifest.json",
            b'{"format": 1, "run_id": "a", "history": [], "paths": {"data.root": 3}}',
            r"paths\.'data\.root' must be a table, not 3",
        ),
        ("metrics.json", b"[1]", r"metrics\.json is damaged"),
    ],
)
def test_what_cannot_be_right_is_not_accepted(run, name, content, said):
    (run.path / name).write_bytes(content)
    sums = (run.path / "SHA256SUMS").read_bytes()
    with pytest.raises(CheckpointError, match=said):
        run.accept()
    assert (run.path / "SHA256SUMS").read_bytes() == sums


def test_a_folder_of_format_0_is_refused_with_the_reason(run):
    manifest = run.read().manifest
    del manifest["format"]
    run.manifest.write_text(json.dumps(manifest))
    (run.path / "SHA256SUMS").unlink()
    for open_it in (run.read, lambda: run.create_or_open(CONFIG, MANIFEST), run.accept):
        with pytest.raises(CheckpointError, match=r"run format 0.*this hebm reads format 1.*another name"):
            open_it()


def test_a_folder_of_a_newer_format_is_refused(run):
    run.manifest.write_text(json.dumps({**run.read().manifest, "format": 2}))
    with pytest.raises(CheckpointError, match="has run format 2, this hebm reads format 1"):
        run.accept()


def test_lost_sums_are_named_and_can_be_made_again(run):
    (run.path / "SHA256SUMS").unlink()
    with pytest.raises(CheckpointError, match=r"SHA256SUMS is missing.*hebm verify .* --accept"):
        run.create_or_open(CONFIG, MANIFEST)
    assert run.accept() == ["config.toml", "manifest.json"]
    run.create_or_open(CONFIG, MANIFEST)


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot make .*a part of this path is a file"):
        RunFolder(tmp_path / "file" / "run").create_or_open(CONFIG, MANIFEST)


# ---------------------------------------------------------------- a run that was imported: it has seen no data

IMAGES = {"channels": 1, "height": 28, "width": 28, "classes": [], "binary": True}
IMPORTED = {**MANIFEST, "data": None, "images": IMAGES}
FIRST = {**MANIFEST, "data": {"train": "abc"}, "images": {**IMAGES, "classes": ["0", "1"]}}


@pytest.fixture
def imported(tmp_path):
    folder = RunFolder(tmp_path / "imported")
    folder.create_or_open(CONFIG, IMPORTED)
    return folder


def test_an_imported_run_takes_the_first_data_it_meets_for_its_own_and_keeps_to_them(imported):
    manifest = imported.create_or_open(CONFIG, FIRST)
    assert manifest == imported.read().manifest
    assert (manifest["data"], manifest["images"], manifest["history"]) == (FIRST["data"], FIRST["images"], [])
    imported.create_or_open(CONFIG, FIRST)
    with pytest.raises(CheckpointError, match="data fingerprint"):
        imported.create_or_open(CONFIG, {**FIRST, "data": {"train": "xyz"}})


def test_attributes_are_taken_over_as_classes_are(imported):
    images = {**IMAGES, "attributes": ["male", "smiling"]}
    assert imported.create_or_open(CONFIG, {**FIRST, "images": images})["images"] == images


def test_data_of_another_shape_are_refused_and_not_taken(imported):
    with pytest.raises(CheckpointError, match=r"images\.height: 28 → 32"):
        imported.create_or_open(CONFIG, {**FIRST, "images": {**FIRST["images"], "height": 32}})
    assert imported.read().manifest["data"] is None
    imported.create_or_open(CONFIG, FIRST)


def test_told_to_go_on_with_another_shape_it_records_that_once(imported):
    manifest = imported.create_or_open(CONFIG, {**FIRST, "images": {**FIRST["images"], "height": 32}}, allow=True)
    assert manifest["history"] == [["images.height: 28 → 32"]]


def test_an_imported_run_is_held_to_its_plugins_as_any_other(imported):
    with pytest.raises(CheckpointError, match=r"plugins\.mine: '1\.0' → '1\.1'"):
        imported.create_or_open(CONFIG, {**FIRST, "plugins": {"other": "0.1", "mine": "1.1"}})


def test_a_key_that_is_newer_than_a_run_has_its_default_there(tmp_path):
    folder = RunFolder(tmp_path / "tiny")
    text = dumps(Experiment.from_table(tiny()))
    older = "\n".join(line for line in text.splitlines() if not line.startswith("epoch ="))
    assert older != text
    folder.create_or_open(older, {"hebm": "0", "plugins": {}, "data": {"train": "x"}})
    assert folder.create_or_open(text, {"hebm": "0", "plugins": {}, "data": {"train": "x"}})["run_id"]


def test_results_of_named_evaluations_leave_with_the_others_when_the_weights_change(run):
    run.write_metrics({"n": 1})
    text, manifest = run.read().config, run.read().manifest
    run.record(text.replace("samples = 1000", "samples = 7"), manifest, {"n": 2}, "small")
    found = run.read()
    assert found.config == text
    assert found.metrics == {"n": 1}
    assert found.evaluations == {"small": {"n": 2, "evaluate": {"samples": 7}}}
    run.forget_results()
    assert (run.read().metrics, run.read().evaluations) == (None, {})
