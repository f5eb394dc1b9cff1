"""R6 for longer runs: N steps extended to M are the M steps, bit for bit, or the key that forbids it is named."""

import itertools
import json
import os
import shutil
from types import SimpleNamespace

import pytest
from real_runs import differences, hebm, log, merged, newest, steps_saved, tiny, train, write_config

from hebm.building import build
from hebm.config.experiment import Experiment
from hebm.errors import CheckpointError, ConfigError
from hebm.stored_runs import read_run
from hebm.training.extension import Extension, step_keys
from hebm.training.job import WatchedProgress
from hebm_plugins.two_layer import recipe as two_layer
from hebm_plugins.two_layer.backbone import InferringTwoLayer

CONSTANT = {"schedule": "constant", "ema": 0.9, "warmup": 2, "clip": 1.0, "learning_rate": 1e-3}
OF_PHASES = {"train": {"backbone": CONSTANT, "prior": CONSTANT}}
LONGER = {
    "two-phase": {"train": {"prior": {"steps": 11}}},
    "joint": {"train": {"steps": 17}},
    "variational": {"train": {"steps": 17}},
}
LOGGED = [("two-phase", 1), ("joint", 7), ("variational", 1)]
"""Schemes with the number of steps between two lines of the log; the other pairs are slow tests."""
ONCE_EACH = [
    pytest.param(scheme, log_every, marks=() if (scheme, log_every) in LOGGED else pytest.mark.slow)
    for scheme in LONGER
    for log_every in (1, 7)
]


def of(scheme="two-phase", **changes):
    return merged(merged(tiny(scheme), OF_PHASES), changes)


def extended(table, longer, folder, stop_after=None):
    """A run extended, and the same run with the steps from the start; what was said."""
    said = []
    train(table, folder / "extended", stop_after=stop_after)
    assert train(longer, folder / "extended", extend=said.append)
    assert train(longer, folder / "whole")
    return folder / "extended", folder / "whole", said


@pytest.mark.parametrize(("scheme", "log_every"), ONCE_EACH)
def test_a_finished_run_goes_on_and_is_the_longer_run(tmp_path, scheme, log_every):
    table = of(scheme, run={"log_every": log_every})
    one, whole, said = extended(table, merged(dict(table), LONGER[scheme]), tmp_path)
    assert said[0].startswith("extended from step 12, phase ")
    assert "steps: " in said[0]
    assert differences(one, whole) == []
    assert "steps: " in json.dumps(read_run(one).manifest["history"], ensure_ascii=False)


@pytest.mark.parametrize(("steps", "longer"), [(5, False), (6, False), (7, True)])
def test_only_more_steps_lengthen_a_phase(steps, longer):
    old, new = (SimpleNamespace(name="prior", steps=n) for n in (6, steps))
    assert Extension(None, [old], [new]).lengthens("prior") == longer


def test_a_control_that_another_schedule_is_another_run(tmp_path, monkeypatch):
    monkeypatch.setattr("hebm.training.extension.Extension._rates", lambda *_: None)
    table = of(train={"prior": {"schedule": "cosine"}})
    one, whole, _ = extended(table, merged(dict(table), LONGER["two-phase"]), tmp_path)
    assert differences(one, whole)


def test_a_run_stopped_before_its_rate_falls_goes_on(tmp_path):
    table = of(train={"prior": {"schedule": "linear", "decay_from": 0.5}})
    one, whole, said = extended(table, merged(dict(table), {"train": {"prior": {"steps": 9}}}), tmp_path, stop_after=9)
    assert said[0].startswith("extended from step 9, ")
    assert differences(one, whole) == []


def test_it_goes_back_to_the_last_checkpoint_before_the_rate_fell_and_keeps_the_later_ones(tmp_path):
    table = of(train={"prior": {"schedule": "linear", "decay_from": 0.5}})
    one, whole, said = extended(table, merged(dict(table), {"train": {"prior": {"steps": 9}}}), tmp_path)
    assert said[0].startswith("extended from step 8, phase ")
    assert differences(one, whole) == []
    assert "before-extension-step-00000012" in os.listdir(one / "checkpoints")


def test_a_later_phase_that_has_not_started_may_have_any_more_steps(tmp_path):
    table = of(train={"prior": {"schedule": "cosine"}})
    one, whole, _ = extended(table, merged(dict(table), LONGER["two-phase"]), tmp_path, stop_after=5)
    assert differences(one, whole) == []


def refused(table, longer, folder, **options):
    train(table, folder, **options)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "run.lock"}
    with pytest.raises((ConfigError, CheckpointError)) as caught:
        train(longer, folder, extend=lambda _: pytest.fail("extended"))
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "run.lock"}
    assert {path for path in before if path.is_file()} == {path for path in after if path.is_file()}
    assert all(after[path] == before[path] for path in before if path.is_file())
    return str(caught.value)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "exponential"])
def test_a_schedule_over_all_steps_is_refused_by_its_key(tmp_path, schedule):
    table = of(train={"prior": {"schedule": schedule}}, run={"checkpoint_every": 100})
    said = refused(table, merged(dict(table), LONGER["two-phase"]), tmp_path / "tiny")
    assert f"train.prior.schedule: '{schedule}' depends on the number of steps from step" in said
    assert "give the run another name" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"backbone": {"steps": 9}}, "train.backbone.steps: phase 'backbone' is over"),
        ({"prior": {"steps": 5}}, "train.prior.steps: 5 steps are fewer than 6"),
        ({"prior": {"steps": 9, "learning_rate": 0.5}}, "train.prior.learning_rate: 0.001 → 0.5"),
    ],
)
def test_what_would_not_be_the_same_run_is_refused_by_its_key(tmp_path, change, said):
    assert said in refused(of(), of(train=change), tmp_path / "tiny")


def test_a_phase_that_ended_by_patience_has_nothing_to_go_on_with(tmp_path):
    patient = {"steps": 40, "patience": 2, "learning_rate": 1e-9, "warmup": 0}
    table = of(train={"prior": patient})
    said = refused(table, merged(dict(table), {"train": {"prior": {"steps": 50}}}), tmp_path / "tiny")
    assert "train.prior.patience: it ended phase 'prior'" in said


def test_a_loss_that_asks_for_the_number_of_steps_is_refused(tmp_path, monkeypatch):
    objective = InferringTwoLayer.objective

    def annealed(self, batch, noise, progress):
        loss = objective(self, batch, noise, progress)
        return type(loss)(loss.total * min(1.0, progress.step / (0.3 * progress.total)), loss.terms, loss.posterior)

    monkeypatch.setattr(InferringTwoLayer, "objective", annealed)
    table = of("variational", train={"type": "two-phase"})
    table["train"] = {"type": "two-phase", "backbone": {**CONSTANT, "steps": 6}}
    table["prior"] = {"type": "gaussian"}
    said = refused(table, merged(dict(table), {"train": {"backbone": {"steps": 9}}}), tmp_path / "tiny")
    assert "train.backbone.steps: phase 'backbone': its loss depends on the number of steps" in said
    assert newest(tmp_path / "tiny").state["total_used"] is True


@pytest.mark.parametrize("warmup", [0.0, 0.3])
@pytest.mark.parametrize("name", ["hvae", "nvae-tiny"])
def test_objectives_ask_for_the_number_of_steps_only_where_they_depend_on_it(name, warmup):
    from hebm.data.batches import Batches
    from hebm.noise import Noise

    objective = {"objective": {"kl_warmup": warmup}} if name == "nvae-tiny" else {"kl_warmup": warmup}
    table = {**tiny(), "backbone": {"type": name, **objective}}
    experiment = Experiment.from_table(table)
    images = experiment.data.load("test")
    from hebm.data.dataset_recipe import spec

    backbone = build(experiment, spec(images, experiment.data)).backbone
    progress = WatchedProgress(3, 9)
    batch = Batches(images, experiment.data, 0, training=False).in_order(0, 2)
    backbone.objective(batch, Noise(0, "x"), progress)
    assert progress.total_used == bool(warmup)


class Finalizing(InferringTwoLayer):
    """Its weights change when its phase ends."""

    def finalize(self, noise):
        for parameter in self.parameters():
            parameter.data.mul_(0.5)


@pytest.fixture
def finalizing(monkeypatch):
    monkeypatch.setattr(two_layer, "InferringTwoLayer", Finalizing)


def test_what_is_finalized_at_the_end_of_a_phase_goes_on_from_before_that(tmp_path, finalizing):
    table = of(train={"backbone": {"ema": 0.9}})
    table["prior"], table["train"] = {"type": "gaussian"}, {"type": "two-phase", "backbone": {**CONSTANT, "steps": 6}}
    one, whole, said = extended(table, merged(dict(table), {"train": {"backbone": {"steps": 9}}}), tmp_path)
    assert said[0].startswith("extended from step 6, phase backbone (step 6)")
    assert differences(one, whole) == []
    assert steps_saved(one) == [9, 9]


def test_killed_while_checkpoints_are_set_aside_the_run_is_a_good_one(tmp_path, monkeypatch):
    table = of(train={"prior": {"schedule": "linear", "decay_from": 0.5}}, run={"checkpoint_every": 1, "keep": 6})
    longer = merged(of(), {**table, "train": {"prior": {"steps": 9, "schedule": "linear", "decay_from": 0.5}}})
    assert train(longer, tmp_path / "whole")
    assert train(table, tmp_path / "short")
    for moment in (0, 1, 2):
        run, done = shutil.copytree(tmp_path / "short", tmp_path / str(moment)), itertools.count()

        class Deadly:
            path = os.path

            @staticmethod
            def rename(*paths, done=done, moment=moment):
                if next(done) == moment:
                    raise KeyboardInterrupt
                os.rename(*paths)

        def unwritten(said):  # everything is set aside, and the configuration is still the old one
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("hebm.training.extension.os", Deadly)
            with pytest.raises(KeyboardInterrupt):
                train(longer, run, extend=unwritten)
        old = shutil.copytree(run, tmp_path / f"{moment}-old")
        assert train(table, old)
        assert differences(old, tmp_path / "short") == []
        assert train(longer, run, extend=lambda said: None)
        assert differences(run, tmp_path / "whole") == []


def test_the_command_says_where_it_goes_on_and_the_refusal_names_the_option(tmp_path):
    config = write_config(tmp_path, of())
    nothing = hebm("run", config, "--runs", tmp_path, "--extend")
    assert (nothing.status, "has no run to extend yet" in nothing.stderr) == (2, True)
    assert hebm("run", config, "--runs", tmp_path, "--quiet").status == 0
    more = ("--set", "train.prior.steps=9")
    refused = hebm("run", config, "--runs", tmp_path, *more)
    assert refused.status == 1
    assert "train it further with --extend" in refused.stderr
    process = hebm("run", config, "--runs", tmp_path, "--extend", *more)
    assert process.status == 0, process.stderr
    assert "note: extended from step 12, phase prior (step 6): train.prior.steps: 6 → 9" in process.stderr
    assert len(log(tmp_path / "tiny")) == 15
    again = hebm("run", config, "--runs", tmp_path, "--extend", *more)
    assert (again.status, again.stderr) == (0, "")


def test_step_counts_are_those_of_phases_alone():
    assert step_keys(Experiment.from_table(tiny()).train) == ("train.backbone.steps", "train.prior.steps")
    assert step_keys(Experiment.from_table(tiny("joint")).train) == ("train.steps",)
