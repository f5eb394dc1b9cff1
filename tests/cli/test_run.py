"""`hebm run` as a user meets it."""

import json
import shutil
from importlib.util import find_spec

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from real_runs import fork_server, hebm, log, newest, steps_saved, tiny, train, write_config

from hebm.cli.main import main
from hebm.store.checkpoints import list_checkpoints


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder, the process that finished it)."""
    folder = tmp_path_factory.mktemp("finished")
    config = write_config(folder, tiny(run={"sample_every": 5}))
    return folder, hebm("run", config, "--runs", folder)


def test_a_run_leaves_metrics_and_report_and_prints_its_table(finished):
    folder, process = finished
    assert process.status == 0, process.stderr
    run = folder / "tiny"
    assert {path.name for path in run.iterdir()} >= {"config.toml", "manifest.json", "metrics.json", "report.html"}
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["conditions"]["n"], metrics["conditions"]["seed"]) == (128, 0)
    assert metrics["seconds"] >= metrics["seconds_training"] > 0
    assert process.stdout.startswith("tiny\n")
    assert str(run / "report.html") in process.stdout


def test_grids_of_samples_are_written_on_the_way(finished):
    grids = sorted((finished[0] / "tiny" / "samples").glob("step-*.png"))
    assert [grid.name for grid in grids] == ["step-00000005.png", "step-00000010.png"]
    assert Image.open(grids[0]).size[0] > 64


def test_progress_is_about_ten_lines_a_phase_however_often_it_is_logged(tmp_path):
    table = tiny(train={"backbone": {"steps": 40}, "prior": {"steps": 0}})
    process = hebm("run", write_config(tmp_path, table), "--runs", tmp_path)
    assert process.stderr.count("backbone ") == 10
    assert "backbone 40/40 loss" in process.stderr
    assert steps_saved(tmp_path / "tiny")[-1] == 40  # a phase without steps is saved as well, so that it is over
    assert newest(tmp_path / "tiny").phase == "prior"


def test_quiet_is_quiet(tmp_path):
    process = hebm("run", write_config(tmp_path, tiny()), "--runs", tmp_path, "--quiet")
    assert (process.status, process.stderr) == (0, "")


def test_a_finished_run_prints_its_table_at_once(finished):
    folder, first = finished
    before = (folder / "tiny" / "metrics.json").read_text(), log(folder / "tiny"), steps_saved(folder / "tiny")
    process = hebm("run", folder / "experiment.toml", "--runs", folder)
    assert (process.status, process.stdout, process.stderr) == (0, first.stdout, "")
    assert before == (
        (folder / "tiny" / "metrics.json").read_text(),
        log(folder / "tiny"),
        steps_saved(folder / "tiny"),
    )


@pytest.mark.parametrize("lost", ["metrics.json", "report.html"])
def test_a_run_that_is_not_whole_is_evaluated_again_without_training(tmp_path, finished, lost):
    config = shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True) / "experiment.toml"
    (tmp_path / "tiny" / lost).unlink()
    process = hebm("run", config, "--runs", tmp_path)
    assert process.status == 0
    assert "step 6 of 6" in process.stderr
    assert "6/6" not in process.stderr
    assert (tmp_path / "tiny" / lost).exists()


def test_other_evaluation_settings_are_no_other_experiment(tmp_path, finished):
    config = shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True) / "experiment.toml"
    process = hebm("run", config, "--runs", tmp_path, "--set", "evaluate.samples=192")
    assert process.status == 0
    assert json.loads((tmp_path / "tiny" / "metrics.json").read_text())["conditions"]["n"] == 192
    assert "6/6" not in process.stderr


@pytest.mark.parametrize("changes", [["run.log_every=3"], ["prior.sampler.steps=4", "--allow-changes"]])
def test_a_finished_run_keeps_its_results_until_there_are_others(tmp_path, finished, monkeypatch, changes):
    config = shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True) / "experiment.toml"
    folder = tmp_path / "tiny"

    def contents():
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "run.lock"}

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    before = contents()
    monkeypatch.setattr("hebm.pipeline.measure", interrupted)
    result = CliRunner().invoke(main, ["run", str(config), "--runs", str(tmp_path), "--set", *changes])
    assert result.exit_code == 130, result.output
    assert contents() == before


def test_the_next_start_of_a_finished_run_removes_what_killed_processes_left(tmp_path, finished):
    config = shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True) / "experiment.toml"
    folder = tmp_path / "tiny"
    for place in (".", "checkpoints", "samples", "analyses", "evaluations", "imported"):
        (folder / place / ".tmp-folder-7").mkdir(parents=True)
        (folder / place / ".tmp-x.json-123").touch()
    assert CliRunner().invoke(main, ["run", str(config), "--runs", str(tmp_path)]).exit_code == 0
    assert list(folder.rglob(".tmp-*")) == []


def test_fewer_steps_than_were_taken_are_allowed_when_asked_for(tmp_path):
    config = write_config(tmp_path, tiny())
    assert not train(tiny(), tmp_path / "tiny", stop_after=5)
    fewer = ("--set", "train.backbone.steps=3", "--allow-changes")
    assert hebm("run", config, "--runs", tmp_path, *fewer).status == 0
    assert [line["total_step"] for line in log(tmp_path / "tiny")] == list(range(1, 12))
    assert steps_saved(tmp_path / "tiny") == [8, 11]


# ---------------------------------------------------------------- the table [run]


def test_a_device_that_is_not_there_is_a_configuration_error(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    process = hebm("run", write_config(tmp_path, tiny(run={"device": "cuda"})), "--runs", tmp_path)
    assert process.status == 2
    assert "error: run.device: 'cuda' is not available here" in process.stderr
    assert not (tmp_path / "tiny").exists()


def test_mixed_precision_trains_and_stays_finite(tmp_path):
    table = tiny("joint", run={"mixed_precision": "bf16"})
    process = hebm("run", write_config(tmp_path, table), "--runs", tmp_path)
    assert process.status == 0, process.stderr
    lines = log(tmp_path / "tiny")
    assert (len(lines), lines[-1]["skipped"]) == (12, 0)
    assert train(tiny("joint"), tmp_path / "full")
    full = log(tmp_path / "full")
    assert lines[0]["loss"] != full[0]["loss"]
    assert lines[-1]["loss"] == pytest.approx(full[-1]["loss"], rel=0.02)
    weights = newest(tmp_path / "tiny").tensors["backbone"].values()
    assert all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in weights)


def test_fp16_which_needs_a_loss_scale_is_not_offered(tmp_path):
    process = hebm("run", write_config(tmp_path, tiny(run={"mixed_precision": "fp16"})), "--runs", tmp_path)
    assert process.status == 2
    assert "run.mixed_precision" in process.stderr


@pytest.mark.parametrize("name", ["tensorboard", "tensorbord"])
def test_a_tracker_that_is_not_installed_or_misspelt_is_a_configuration_error(tmp_path, name):
    from accelerate.tracking import get_available_trackers

    if name in map(str, get_available_trackers()):
        pytest.skip("it is installed")
    process = hebm("run", write_config(tmp_path, tiny(run={"trackers": [name]})), "--runs", tmp_path)
    assert process.status == 2
    known = f"'{name}' is not installed", "unknown tracker 'tensorbord'; did you mean 'tensorboard'?"
    assert f"error: run.trackers: {known[name == 'tensorbord']}" in process.stderr


TENSORBOARD = """\
import json
from pathlib import Path


class SummaryWriter:
    def __init__(self, folder, **kwargs):
        self.path = Path(folder) / "scalars.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def add_scalar(self, name, value, global_step=None, **kwargs):
        with self.path.open("a") as file:
            file.write(json.dumps([name, value, global_step]) + "\\n")

    def add_hparams(self, values, **kwargs):
        self.path.with_name("hparams.json").write_text(json.dumps(values))

    def add_images(self, name, pixels, global_step=None, dataformats="NCHW", **kwargs):
        assert dataformats == "NHWC"
        assert pixels.shape[3] == 3
        self.add_scalar(name, list(pixels.shape), global_step)

    def flush(self):
        pass

    def close(self):
        self.path.with_name("closed").touch()
"""


def test_trackers_are_given_every_line(tmp_path):
    """Against a stand-in for tensorboardX: what arrives, and that it is closed."""
    if find_spec("tensorboard") or find_spec("tensorboardX"):
        pytest.skip("the real one is installed")
    (tmp_path / "tensorboardX.py").write_text(TENSORBOARD)
    config = write_config(tmp_path, tiny(run={"trackers": ["tensorboard"]}, evaluate={"metrics": ["active-units"]}))
    arguments = ["run", str(config), "--runs", str(tmp_path)]
    process = fork_server().start("real_runs:cli_with_tensorboard", arguments, [str(tmp_path)])
    assert process.end() == 0, process.stderr
    (written,) = (tmp_path / "tiny").rglob("scalars.jsonl")
    scalars = [json.loads(line) for line in written.read_text().splitlines()]
    lines = log(tmp_path / "tiny")
    assert [[name, value, step] for name, value, step in scalars if name.endswith("/loss")] == [
        [f"{line['phase']}/loss", line["loss"], line["step"]] for line in lines
    ]
    arrived = {name for name, _, _ in scalars}
    assert {name for name in arrived if name.startswith("evaluation/active-units")}
    assert "evaluation/prior" in arrived  # a grid
    assert written.parent == tmp_path / "tiny" / "trackers" / "hebm"
    assert json.loads(written.with_name("hparams.json").read_text())["prior.type"] == "joint"
    assert written.with_name("closed").exists()


def test_checkpoints_are_kept_as_many_as_asked_for(tmp_path):
    assert train(tiny(run={"checkpoint_every": 1, "keep": 3}), tmp_path / "tiny")
    assert len(list_checkpoints(tmp_path / "tiny" / "checkpoints")) == 3
