"""R9 and R10: what is not finite is left out and counted, never repaired; then the run stops with a report."""

from pathlib import Path

import poisons
import pytest
import torch
from real_runs import fork_server, hebm, install, log, newest, steps_saved, tiny, train, write_config

from hebm import pipeline, transitions
from hebm.config.experiment import Experiment
from hebm.config.recipes import recipe
from hebm.sampling import run
from hebm.training.guard import Guard
from hebm_plugins.samplers.ula import ULA, Point


@pytest.fixture
def failing(tmp_path):
    source = Path(poisons.__file__).read_text()
    return install(tmp_path / "site", "hebm_priors", "failing", "poisons_plugin:Failing", source)


def failing_table(**prior):
    return {**tiny(run={"max_skipped": 3}), "prior": {"type": "failing", "sampler": {"steps": 2}, **prior}}


def finite(folder):
    return all(tensor.isfinite().all() for part in newest(folder).tensors.values() for tensor in part.values())


def test_the_guard_counts_all_and_those_in_a_row():
    guard = Guard(limit=2)
    assert [guard.failed(), guard.failed()] == [False, True]
    guard.passed()
    assert (guard.skipped, guard.in_a_row) == (2, 0)


def test_the_guard_asks_for_a_note_after_every_hundred_large_gradients_in_a_row():
    guard = Guard(limit=2)
    assert [guard.too_large() for _ in range(200)].count(True) == 2
    assert (guard.skipped, guard.in_a_row) == (200, 0)
    guard.passed()
    assert guard.large_in_a_row == 0


def test_steps_with_large_gradients_are_left_out_and_counted(tmp_path):
    backbone = {"steps": 4, "skip_above": 1e-9, "weight_decay": 0.1, "ema": 0.9}
    table = tiny(train={"type": "two-phase", "backbone": backbone, "prior": {"steps": 1}})
    assert train(table, tmp_path / "tiny", stop_after=4) is False
    lines = log(tmp_path / "tiny")
    assert [line["skipped"] for line in lines] == [1, 2, 3, 4]
    assert len({line["learning_rate_backbone"] for line in lines}) == 4  # the schedule goes on
    stopped = newest(tmp_path / "tiny").tensors
    initial = pipeline.assemble(Experiment.from_table(table)).model.backbone.state_dict()
    assert all(torch.equal(initial[name], value) for name, value in stopped["backbone"].items())
    assert all(torch.equal(initial[name], stopped["backbone-ema"][f"module.{name}"]) for name in initial)
    assert stopped["optimizer-backbone"] == {}


def test_steps_that_are_not_finite_are_left_out_counted_and_training_goes_on(tmp_path, register):
    register("hebm_priors", "failing")(poisons.Failing)
    assert train(failing_table(first=2, last=3), tmp_path / "tiny")
    lines = log(tmp_path / "tiny")[6:]
    assert [line["skipped"] for line in lines] == [0, 1, 2, 2, 2, 2]
    assert [line["loss"] is None for line in lines] == [False, True, True, False, False, False]
    assert [line["nonfinite_chains"] for line in lines] == [0, 128, 256, 256, 256, 256]
    assert finite(tmp_path / "tiny")


def test_too_many_in_a_row_end_the_run_with_a_report_and_keep_the_last_good_checkpoint(tmp_path, failing):
    config = write_config(tmp_path, failing_table(first=4))
    process = hebm("run", config, "--runs", tmp_path, path=[failing])
    assert process.status == 1
    assert "Traceback" not in process.stderr
    report = process.stderr[process.stderr.index("error:") :]
    assert "phase 'prior', step 6: 3 step(s) in a row" in report
    assert "f_positive=nan" in report
    assert "First: output of module trained." in report
    assert "384 chains ended with values that are not finite while the weights stayed small: lower the" in report
    assert "--allow-changes" in report
    assert steps_saved(tmp_path / "tiny")[-1] == 8  # the multiple of 4 before the first bad step, 10
    assert finite(tmp_path / "tiny")


def test_a_learning_rate_that_is_too_large_ends_the_run_too(tmp_path):
    config = write_config(tmp_path, tiny(run={"max_skipped": 2, "checkpoint_every": 1}))
    change = ("--set", "train.backbone.learning_rate=1e30", "--set", "train.backbone.warmup=0")
    process = hebm("run", config, "--runs", tmp_path, *change)
    assert process.status == 1
    assert "Traceback" not in process.stderr
    assert "phase 'backbone', step 3: 2 step(s) in a row" in process.stderr
    assert "First: output of module backbone." in process.stderr
    assert "; the weights of the backbone have grown from " in process.stderr
    assert "to 1e+30: lower train.backbone.learning_rate (now " in process.stderr
    assert steps_saved(tmp_path / "tiny") == [1], "steps that failed must not push good checkpoints out"


def test_a_step_size_that_is_too_large_is_what_the_error_blames(tmp_path):
    config = write_config(tmp_path, tiny(run={"max_skipped": 2}))
    process = hebm("run", config, "--runs", tmp_path, "--set", "prior.sampler.step_size=1e25")
    assert process.status == 1
    assert "phase 'prior', step 2" in process.stderr
    assert "lower the sampler's step_size, then start the run again" in process.stderr


def test_a_loss_that_is_not_finite_on_one_of_two_processes_is_left_out_on_both(tmp_path, failing):
    config = write_config(tmp_path, failing_table(first=2, last=3, rank=1))
    argument = ["run", str(config), "--runs", str(tmp_path)]
    processes = fork_server().world("fork_server:cli", argument, path=[failing])
    assert [process.end() for process in processes] == [0, 0], processes[0].stderr
    assert [line["skipped"] for line in log(tmp_path / "tiny")[6:]] == [0, 1, 2, 2, 2, 2]
    assert log(tmp_path / "tiny")[-1]["nonfinite_chains"] == 128
    assert finite(tmp_path / "tiny")


def test_the_report_of_two_processes_names_the_offender_once(tmp_path, failing):
    config = write_config(tmp_path, failing_table(first=2, rank=1))
    argument = ["run", str(config), "--runs", str(tmp_path)]
    processes = fork_server().world("fork_server:cli", argument, path=[failing])
    assert [process.end() for process in processes] == [1, 1]
    said = "".join(process.stderr for process in processes)
    assert said.count("error:") == 1
    assert "First: output of module trained." in said
    assert "Traceback" not in said


# ---------------------------------------------------------------- one chain


@recipe
class PoisonedULA(ULA):
    """Chain number 3 becomes NaN in every step."""

    def step(self, density, state, noise):
        point, info = ULA.step(self, density, state, noise)
        u = point.u.clone()
        u[3] = torch.nan
        return Point(u), info


def train_and_keep_chains(folder, monkeypatch, poisoned):
    """The end of each step's chain; in call number `poisoned` one chain is NaN."""
    ends = []

    def recording(sampler, *arguments):
        chain = run(PoisonedULA(steps=sampler.steps) if len(ends) == poisoned else sampler, *arguments)
        ends.append(chain.u.clone())
        return chain

    monkeypatch.setattr(transitions, "run", recording)
    assert train(tiny(), folder)
    return ends


def test_one_chain_that_is_nan_leaves_every_other_bit_equal_and_is_counted(tmp_path, monkeypatch):
    healthy = train_and_keep_chains(tmp_path / "healthy", monkeypatch, poisoned=None)
    ill = train_and_keep_chains(tmp_path / "ill", monkeypatch, poisoned=2)
    others = torch.arange(128) != 3
    assert ill[2][3].isnan().all()
    assert torch.equal(ill[2][others], healthy[2][others])
    lines = log(tmp_path / "ill")[6:]
    assert [line["nonfinite_chains"] for line in lines] == [0, 0, 1, 1, 1, 1]
    assert [line["skipped"] for line in lines] == [0, 0, 1, 1, 1, 1]
    assert finite(tmp_path / "ill")


def test_counts_survive_a_stop(tmp_path, monkeypatch):
    train_and_keep_chains(tmp_path / "whole", monkeypatch, poisoned=2)
    ends = iter(range(100))

    def recording(sampler, *arguments):
        return run(PoisonedULA(steps=sampler.steps) if next(ends) == 2 else sampler, *arguments)

    monkeypatch.setattr(transitions, "run", recording)
    assert not train(tiny(), tmp_path / "tiny", stop_after=10)
    assert train(tiny(), tmp_path / "tiny")
    assert log(tmp_path / "tiny") == log(tmp_path / "whole")
