"""`hebm sweep` as a user meets it; and what other commands say of a sweep file."""

import json
import os
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from real_runs import fork_server, hebm, log, wait_for

sys.path.insert(0, str(Path(__file__).parents[1] / "sweeps"))
sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
import fake_slurm
from finished_run import finished_run
from small_sweeps import VARIANTS, planned, stand_in, sweep_file

from hebm.cli.main import main
from hebm.errors import ConfigError
from hebm.estimates import Estimate
from hebm.report.comparison import compared
from hebm.report.measured_rows import write_rows
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


@pytest.fixture
def checks(monkeypatch):
    """Checks that take no time: training of a backbone takes 60 s, of a prior 30 s, evaluation 10 s."""
    checked = []

    def check(experiment, say=None):
        checked.append(experiment)
        if experiment.evaluate.after == "stage 9":
            raise ConfigError("evaluate.after: there is no stage 9")
        return SimpleNamespace(
            estimate=Estimate({"backbone": 60.0, "prior": 30.0}, 10.0, 3, ("metric own",), shared=4.0)
        )

    monkeypatch.setattr("hebm.checking.check", check)
    return checked


def test_a_dry_run_lists_runs_needs_stages_and_time_and_writes_nothing(tmp_path, checks):
    file = sweep_file(tmp_path)
    result = invoke("sweep", file, "--runs", tmp_path / "runs", "--dry-run", "--jobs", "2")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[1].split() == ["small-joint-0", "–", "new", "2", "min"]
    assert lines[2].split() == [
        "small-gaussian-0",
        "small-joint-0",
        "new",
        "36",
        "s",
    ]  # without what the first has done
    assert lines[-1] == "4 runs, 2 at a time: about 2 min"
    assert "trying a few steps of gaussian\nnote: time not counted: metric own" in result.stderr
    assert [experiment.train.backbone_from for experiment in checks] == [None, None]
    assert {path.name for path in tmp_path.iterdir()} == {"experiment.toml", "small.toml"}


def test_a_variant_that_cannot_start_is_a_note_of_a_dry_run(tmp_path, checks):
    file = sweep_file(tmp_path, f'{VARIANTS}evaluate.after = "stage 9"\n')
    result = invoke("sweep", file, "--runs", tmp_path / "runs", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "note: variant 'gaussian': evaluate.after: there is no stage 9" in result.stderr
    assert result.stdout.splitlines()[-1] == "4 runs: about 3 min and 2 runs of unknown length"


@pytest.mark.slow
def test_a_dry_run_takes_a_few_steps_of_real_variants(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = invoke("sweep", sweep_file(tmp_path), "--dry-run")
    assert re.fullmatch(r"4 runs: about \d+ s", result.stdout.splitlines()[-1]), result.output
    assert {path.name for path in tmp_path.iterdir()} == {"experiment.toml", "small.toml"}


def test_other_commands_say_what_a_sweep_file_is(tmp_path):
    file = sweep_file(tmp_path)
    result = invoke("run", file)
    assert result.exit_code == 2
    assert f"error: {file}: is a sweep file, for several runs; start them with `hebm sweep {file}`" in result.stderr
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


def test_a_dry_run_is_one_json_object_for_programs(tmp_path, checks):
    result = invoke("sweep", sweep_file(tmp_path), "--runs", tmp_path / "runs", "--dry-run", "--json")
    found = json.loads(result.stdout)
    assert (found["sweep"], found["jobs"], len(found["runs"])) == ("small", 1, 4)
    assert found["runs"][1] == {
        "name": "small-gaussian-0",
        "variant": "gaussian",
        "seed": 0,
        "folder": str(tmp_path / "runs" / "small-gaussian-0"),
        "needs": "small-joint-0",
        "state": "new",
        "seconds": 36.0,
    }


def test_how_runs_ended_is_one_json_object_for_programs(tmp_path, standing_in):
    standing_in("print('epoch 1')\nsys.exit('error: no space')")
    result = invoke("sweep", sweep_file(tmp_path), "--runs", tmp_path / "runs", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [(run["state"], run["reason"]) for run in found["runs"][:2]] == [
        ("failed", "no space"),
        ("skipped", "it takes the backbone of small-joint-0"),
    ]
    assert (found["comparison"], found["page"], found["measurements"], found["against"]) == ([], None, None, None)


def test_measurements_of_another_sweep_are_refused_before_anything_runs(tmp_path):
    committed = tmp_path / "other.measurements"
    write_rows([compared(finished_run(tmp_path, "other-joint-0", with_samples=False))], committed)
    result = invoke("sweep", sweep_file(tmp_path), "--runs", tmp_path / "runs", "--against", committed)
    assert (result.exit_code, (tmp_path / "runs").exists()) == (2, False)
    assert "none of the rows other-joint is one of this sweep: small-gaussian, small-joint" in result.stderr


def test_the_table_of_a_sweep_that_is_not_over_says_which_runs_are_missing_and_why(tmp_path, standing_in):
    file, runs = sweep_file(tmp_path), tmp_path / "runs"
    standing_in("sys.exit('error: no space')")
    invoke("sweep", file, "--runs", runs)
    result = invoke("sweep", file, "--runs", runs, "--table")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"unfinished: small-joint-0: no space\n  log: {runs / 'small-joint-0' / 'run.log'}\n" in result.stderr
    assert "unfinished: small-gaussian-0\n" in result.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--slurm", "--jobs", "2"], "--jobs cannot be combined with --slurm"),
        (["--slurm", "--table"], "--table runs nothing; leave out --slurm"),
    ],
)
def test_options_that_exclude_each_other_are_an_error(tmp_path, options, complaint):
    result = invoke("sweep", sweep_file(tmp_path), *options)
    assert (result.exit_code, complaint in result.stderr) == (2, True)


def test_on_a_cluster_every_run_is_submitted_and_listed_with_its_job(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{fake_slurm.commands(tmp_path)}:{os.environ['PATH']}")
    file, runs = sweep_file(tmp_path), tmp_path / "runs"
    listed = invoke("sweep", file, "--runs", runs, "--slurm", "--dry-run")
    assert listed.stdout.splitlines()[2].split() == ["small-gaussian-0", "small-joint-0", "to", "submit", "–"]
    assert "note: the jobs request no GPU; set slurm.gpus_per_node = 1 to request one" in listed.stderr
    result = invoke("sweep", file, "--runs", runs, "--slurm", "--set", "slurm.gpus_per_node=1", "--json")
    found = json.loads(result.stdout)
    assert [(run["state"], run["job"]) for run in found["runs"][:2]] == [("submitted", "101"), ("submitted", "102")]
    assert found["table_job"] == "105"
    assert "no GPU" not in result.stderr
    again = invoke("sweep", file, "--runs", runs, "--slurm").stdout
    assert again.splitlines()[1].split() == ["small-joint-0", "–", "queued", "101"]
    assert f"job 105, which prints it to {runs / 'small.slurm' / 'table' / '105_0_log.out'}" in again


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
    committed = runs / "small.measurements"
    assert {path.name for path in committed.iterdir()} == {"joint.json", "gaussian.json"}
    held = hebm("sweep", file, "--runs", runs, "--against", committed)
    assert (held.status, held.stdout.splitlines()[-1].startswith("0 of ")) == (0, True)
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


@pytest.mark.slow
def test_a_sweep_runs_on_a_cluster_to_its_table(tmp_path, monkeypatch):
    """Jobs are run one after the other, with submitit in each; a failed prior does not stop the others."""
    monkeypatch.setenv("PATH", f"{fake_slurm.commands(tmp_path)}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    tables = {"evaluate": {"metrics": ["fd", "gap-closed"]}}
    text = f"{VARIANTS}\n[variants.broken]\nseeds = [0]\ntrain.prior.learning_rate = 1e30\n"
    file, runs = sweep_file(tmp_path, text, **tables), Path("runs")
    assert invoke("sweep", file, "--runs", runs, "--slurm").exit_code == 0
    names = []
    while name := fake_slurm.run_next(tmp_path):
        names.append(name)
    jobs = {job["name"]: job["state"] for job in fake_slurm.jobs(tmp_path).values()}
    assert names == [*jobs]
    assert [name for name, state in jobs.items() if state != "COMPLETED"] == ["small-broken-0", "small-table"]
    table = next((runs / "small.slurm" / "table").glob("*_0_log.out")).read_text()
    assert "mean ± sd of small-joint-0" in table
    assert (runs / "small.html").exists()
    assert (runs / "small.measurements" / "joint.json").exists()
