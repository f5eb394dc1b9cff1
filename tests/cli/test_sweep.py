"""`hebm sweep` as a user meets it; and what other commands say of a sweep file."""

import signal
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from real_runs import fork_server, hebm, log, wait_for

sys.path.insert(0, str(Path(__file__).parents[1] / "sweeps"))
from small_sweeps import VARIANTS, planned, stand_in, sweep_file

from hebm.cli.main import main
from hebm.errors import ConfigError
from hebm.sweeps import processes, running
from hebm.sweeps.running import SweepPlan, sweep


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def standing_in(tmp_path, monkeypatch):
    """`standing_in(behaviour)` lets a script stand in for `hebm run`."""

    def start(behaviour):
        command = stand_in(tmp_path, behaviour)

        class Standing(processes.Processes):
            def __init__(self, *arguments):
                super().__init__(*arguments, hebm=command)

        monkeypatch.setattr(running, "Processes", Standing)

    return start


def test_a_dry_run_lists_runs_needs_stages_and_time_and_writes_nothing(tmp_path):
    file = sweep_file(tmp_path)
    result = invoke("sweep", file, "--runs", tmp_path / "runs", "--dry-run", "--jobs", "2")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[2].split() == ["small-gaussian-0", "small-joint-0", "new", "unknown"]
    assert lines[-1] == "4 runs, 2 at a time: time unknown"
    assert {path.name for path in tmp_path.iterdir()} == {"experiment.toml", "small.toml"}


def test_other_commands_say_what_a_sweep_file_is(tmp_path):
    file = sweep_file(tmp_path)
    result = invoke("run", file)
    assert result.exit_code == 2
    assert f"error: {file}: is a sweep, a file for several runs; start them with `hebm sweep {file}`" in result.stderr
    result = invoke("sweep", tmp_path / "experiment.toml")
    assert (result.exit_code, "is not a sweep" in result.stderr) == (2, True)


def test_a_check_tries_every_variant_and_says_what_is_wrong_with_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("check", sweep_file(tmp_path, f'{VARIANTS}evaluate.after = "stage 9"\n'))
    assert result.exit_code == 2
    assert "joint:\n  small-joint-0, seed 0" in result.output
    assert "64 samples drawn" in result.output
    assert "error: variant 'gaussian': evaluate.after" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"experiment.toml", "small.toml"}


def test_a_check_without_complaints_says_how_to_start(tmp_path, monkeypatch):
    checked = []
    monkeypatch.setattr("hebm.checking.check", lambda experiment, say: checked.append(experiment))
    result = invoke("check", sweep_file(tmp_path))
    assert result.output.endswith(f"ready: start it with  hebm sweep {tmp_path / 'small.toml'}\n")
    assert [experiment.name for experiment in checked] == ["small-joint-0", "small-gaussian-0"]
    assert {experiment.train.backbone_from for experiment in checked} == {None}  # it is not trained yet


def test_a_failure_is_reported_with_its_log_and_the_exit_status_is_1(tmp_path, standing_in):
    standing_in("sys.exit('error: no space')")
    result = invoke("sweep", sweep_file(tmp_path), "--runs", tmp_path / "runs")
    assert result.exit_code == 1
    said = tmp_path / "runs" / "small-joint-1" / "run.log"
    assert f"failed: small-joint-1: no space\n  log: {said}\n" in result.stderr
    assert "skipped: small-gaussian-1: it takes the backbone of small-joint-1\n" in result.stderr
    assert not (tmp_path / "runs" / "small.html").exists()


def test_in_python_a_sweep_returns_how_its_runs_ended(tmp_path, standing_in, capsys):
    standing_in("sys.exit('error: no space')")
    result = sweep(sweep_file(tmp_path), runs=tmp_path / "runs", progress=False)
    assert [end.state for end in result.failed] == ["failed", "skipped"] * 2
    assert str(result) == "no run is finished"
    assert capsys.readouterr().err == ""
    with pytest.raises(ConfigError, match="jobs: expected 1 or more, got 0"):
        sweep(tmp_path / "small.toml", jobs=0)


def test_a_plan_prints_as_the_dry_run_does(tmp_path):
    found = planned(tmp_path)
    plan = SweepPlan(None, tmp_path, found, {run.name: "new" for run in found})
    assert str(plan).splitlines()[-1] == "4 runs: time unknown"


def training(folder):
    """Wait until a run has taken some steps: its process has to import everything first."""
    wait_for(lambda: (folder / "metrics.jsonl").exists() and len(log(folder)) >= 5, 300)


@pytest.mark.slow
def test_a_sweep_that_was_interrupted_goes_on_to_its_table_and_page(tmp_path):
    tables = {"train": {"backbone": {"steps": 100}}, "evaluate": {"metrics": ["fd", "gap-closed"]}}
    text = f"{VARIANTS}seeds = [0]\n"
    file, runs = sweep_file(tmp_path, text, **tables), tmp_path / "runs"
    process = fork_server().hebm("sweep", file, "--runs", runs)
    training(runs / "small-joint-0")
    process.send(signal.SIGTERM)
    assert process.end(300) == 128 + signal.SIGTERM, process.stderr
    assert "note: stopped; 0 of 3 runs are finished; start the sweep again" in process.stderr
    assert "note: stopped by signal 15, saved at step" in (runs / "small-joint-0" / "run.log").read_text()

    process = fork_server().hebm("sweep", file, "--runs", runs, "--jobs", "2")
    process.end(600)
    assert process.status == 0, process.stderr
    assert process.stdout.count("mean ± sd of small-joint-0") == 1
    assert "small-gaussian-0" in (runs / "small.html").read_text()
    again = hebm("sweep", file, "--runs", runs)
    assert (again.status, again.stderr, again.stdout) == (0, "", process.stdout)
    listed = hebm("sweep", file, "--runs", runs, "--dry-run").stdout
    assert listed.splitlines()[-1] == "3 runs, all finished"


@pytest.mark.slow
def test_the_runs_of_a_sweep_that_is_killed_save_and_stop(tmp_path):
    file, runs = sweep_file(tmp_path, train={"backbone": {"steps": 10**6}}), tmp_path / "runs"
    process = fork_server().hebm("sweep", file, "--runs", runs)
    training(runs / "small-joint-0")
    process.send(signal.SIGKILL)
    said = runs / "small-joint-0" / "run.log"
    wait_for(lambda: "note: stopped by signal 15, saved at step" in said.read_text(), 300)
