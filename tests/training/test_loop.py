"""The loop: what is trained, logged, saved and told."""

import pytest
from real_runs import Recording, log, newest, steps_saved, tiny, train

from hebm.runs import open_run
from hebm.training.phase_run import PhaseRun


@pytest.mark.parametrize("scheme", ["two-phase", "joint", "variational"])
def test_nothing_but_the_groups_of_a_phase_requires_gradients(tmp_path, monkeypatch, scheme):
    seen = {}

    def no_steps(self):
        wanted = {id(p) for group in self.phase.groups.values() for p in group.parameters().values()}
        seen[self.phase.name] = {id(p) for p in self.run.job.model.parameters() if p.requires_grad} == wanted

    monkeypatch.setattr(PhaseRun, "train", no_steps)
    train(tiny(scheme), tmp_path / "tiny")
    assert seen
    assert all(seen.values())


def test_a_line_says_phase_steps_loss_terms_norms_rates_and_counts(tmp_path):
    train(tiny(run={"log_every": 4}), tmp_path / "tiny")
    lines = log(tmp_path / "tiny")
    assert [line["total_step"] for line in lines] == [4, 6, 8, 12]  # and the last step of each phase
    expected = {"phase", "step", "total_step", "loss", "f_positive", "f_negative", "nonfinite_chains", "skipped"}
    assert set(lines[-1]) == expected | {"grad_norm_prior", "learning_rate_prior"}


def test_phases_without_steps_still_make_a_run_that_can_be_sampled(tmp_path):
    assert train(tiny(train={"backbone": {"steps": 0}, "prior": {"steps": 0}}), tmp_path / "tiny")
    assert newest(tmp_path / "tiny").phase == "prior"
    assert open_run(tmp_path / "tiny").model.sample(3).isfinite().all()


def test_the_listener_hears_phases_steps_lines_and_previews(tmp_path):
    listener = Recording()
    train(tiny(run={"sample_every": 8, "log_every": 6}), tmp_path / "tiny", listener=listener)
    assert [args for event, args in listener.heard if event == "started"] == [("backbone", 0, 6), ("prior", 0, 6)]
    assert sum(event == "stepped" for event, _ in listener.heard) == 12
    assert [args[0]["step"] for event, args in listener.heard if event == "logged"] == [6, 6]
    previews = [args for event, args in listener.heard if event == "previewed"]
    assert [step for *_, step in previews] == [8]


def test_previews_change_nothing(tmp_path):
    train(tiny(run={"sample_every": 1}), tmp_path / "one")
    train(tiny(), tmp_path / "other")
    assert log(tmp_path / "one") == log(tmp_path / "other")
    assert len(list((tmp_path / "one" / "samples").iterdir())) == 12


def test_checkpoints_are_saved_on_time_and_at_the_end_of_each_phase(tmp_path):
    train(tiny(run={"checkpoint_every": 4, "keep": 10}), tmp_path / "tiny")
    assert steps_saved(tmp_path / "tiny") == [4, 6, 8, 12]
