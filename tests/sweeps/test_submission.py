"""Sweeps as jobs of a SLURM cluster; small scripts stand in for its commands."""

import os
import sys

import fake_slurm
import pytest
from fake_slurm import change, jobs
from small_sweeps import VARIANTS, sweep_file

from hebm.config.sweep_file import Sweep
from hebm.errors import ConfigError, HebmError
from hebm.sweeps import submission
from hebm.sweeps.running import SweepPlan
from hebm.sweeps.submission import queued, submit_sweep, submitted

SLURM = """
[slurm]
partition = "gpu"
gpus_per_node = 1
mem_gb = 16
timeout_min = 90
setup = ["module load cuda"]
options = ["reservation=tuesday", "exclusive"]
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{fake_slurm.commands(tmp_path)}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(folder, stages=None, changes=(), text=VARIANTS):
    plan = SweepPlan.of(Sweep.load(sweep_file(folder, text), changes), folder / "runs")
    return SweepPlan(plan.sweep, plan.runs, plan.planned, {**plan.stages, **(stages or {})})


def states(runs):
    return {one.run.name: (one.state, one.job) for one in runs}


def test_backbones_come_first_priors_wait_for_them_and_the_table_for_all(cluster):
    said = []
    found = submitted(planned(cluster), said.append)
    made = jobs(cluster)
    assert [job["name"] for job in made.values()] == [
        "small-joint-0",
        "small-gaussian-0",
        "small-joint-1",
        "small-gaussian-1",
        "small-table",
    ]
    waits = [job["options"].get("dependency") for job in made.values()]
    assert waits == [None, "afterok:101", None, "afterok:103", "afterany:101:102:103:104"]
    assert all(job["options"].get("kill-on-invalid-dep", "yes") == "yes" for job in made.values())
    assert (found.table, found.finished) == ("105", False)
    assert said[0] == "submitted small-joint-0: job 101"
    assert states(found.runs)["small-gaussian-1"] == ("submitted", "104")


def test_in_python_a_sweep_is_submitted_by_its_file_and_prints_as_the_command_does(cluster, capsys):
    found = submit_sweep(sweep_file(cluster), {"slurm.partition": "long"}, runs="runs", progress=False)
    assert str(found).splitlines()[1].split() == ["small-joint-0", "–", "submitted", "101"]
    assert jobs(cluster)["105"]["options"]["partition"] == "long"
    assert tuple(capsys.readouterr()) == ("", "")


def test_a_job_asks_for_what_the_sweep_file_and_the_command_line_say(cluster):
    submitted(planned(cluster, changes=["slurm.timeout_min=30"], text=VARIANTS + SLURM))
    job = jobs(cluster)["101"]
    expected = {"partition": "gpu", "gpus-per-node": "1", "mem": "16GB", "time": "30", "reservation": "tuesday"}
    assert job["options"].items() >= {**expected, "exclusive": "", "requeue": "", "signal": "USR2@120"}.items()
    assert "\nmodule load cuda\n" in job["script"]


def test_a_run_has_as_many_threads_as_its_job_has_cores_unless_the_user_says_otherwise(cluster, monkeypatch):
    made = []
    monkeypatch.setattr(submission, "submit", lambda job, *_, **__: made.append(job) or "1")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    submitted(planned(cluster, changes=["slurm.cpus_per_task=8"]))
    assert {job.variables["OMP_NUM_THREADS"] for job in made} == {"8"}
    made.clear()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    submitted(planned(cluster, changes=["slurm.cpus_per_task=8"]))
    assert not any("OMP_NUM_THREADS" in job.variables for job in made)


def test_what_is_queued_or_running_is_not_submitted_twice_and_what_failed_is_submitted_again(cluster):
    submitted(planned(cluster))
    change(cluster, "101", state="FAILED")
    change(cluster, "102", state="CANCELLED")
    change(cluster, "103", state="RUNNING")
    assert list(states(queued(planned(cluster))).values()) == [
        ("to submit", None),
        ("to submit", None),
        ("running", "103"),
        ("queued", "104"),
    ]
    found = submitted(planned(cluster))
    assert list(states(found.runs).values()) == [
        ("submitted", "106"),
        ("submitted", "107"),
        ("running", "103"),
        ("queued", "104"),
    ]
    made = jobs(cluster)
    assert made["107"]["options"]["dependency"] == "afterok:106"
    assert made["108"]["options"]["dependency"] == "afterany:106:107:103:104"
    assert made["105"]["state"] == "CANCELLED"  # the table that waited for other jobs
    again = submitted(planned(cluster))
    assert (len(jobs(cluster)), again.table) == (len(made), "108")


def test_finished_runs_are_not_submitted_and_a_trained_backbone_is_not_waited_for(cluster):
    stages = {"small-joint-0": "finished", "small-joint-1": "trained"}
    submitted(planned(cluster, stages))
    waits = {job["name"]: job["options"].get("dependency") for job in jobs(cluster).values()}
    assert waits == {
        "small-gaussian-0": None,
        "small-joint-1": None,
        "small-gaussian-1": None,
        "small-table": "afterany:101:102:103",
    }


def test_a_finished_sweep_submits_nothing(cluster):
    plan = planned(cluster)
    found = submitted(planned(cluster, {run.name: "finished" for run in plan.planned}))
    assert (found.finished, found.table, jobs(cluster)) == (True, None, {})


def test_what_sbatch_says_is_the_error_and_the_jobs_before_it_are_kept(cluster):
    with pytest.raises(HebmError, match=r"(?s)job of small-joint-0: .*invalid partition specified: closed"):
        submitted(planned(cluster, changes=["slurm.partition=closed"]))


def test_without_submitit_or_slurm_it_is_said_what_to_install_and_where_to_start(tmp_path, monkeypatch):
    plan = planned(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="sbatch, srun, squeue, scancel not found; start this on a login node"):
        queued(plan)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"submitit; install it with  pip install 'hebm\[slurm\]'"):
        submitted(plan)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("slurm.partitoin=gpu", r"--set slurm.partitoin=gpu: slurm.partitoin: unknown key; did you mean 'partition'"),
        ("slurm.timeout_min=1h", "slurm.timeout_min: expected an integer, got '1h'"),
        ("slurm.gpus_per_node=4", "slurm.gpus_per_node: must be at most 1, got 4"),
        ('slurm.options=["--reservation=x"]', "is not allowed .*without leading dashes"),
    ],
)
def test_keys_that_a_job_cannot_have_are_errors_before_anything_is_submitted(tmp_path, change, complaint):
    with pytest.raises(ConfigError, match=complaint):
        planned(tmp_path, changes=[change])


def test_other_changes_are_those_of_every_run_and_of_the_table(cluster):
    plan = planned(cluster, changes=["slurm.qos=long", "run.threads=1"])
    assert (plan.sweep.slurm.qos, [change.source for change in plan.sweep.changes]) == ("long", ["--set run.threads=1"])
    assert "run.threads=1" in plan.planned[0].arguments
