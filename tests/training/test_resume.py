"""R6: N steps equal a stop after k and a resume, bit for bit: losses, weights, averages, moments, samples."""

import pytest
from real_runs import SCHEMES, TOTAL, differences, log, newest, steps_saved, tiny, train

from hebm.store.checkpoints import Checkpoint
from hebm.training import run_state
from hebm.training.job import Place
from hebm.training.loop import Trainer
from hebm.training.state import GroupState

COMBINATIONS = [(scheme, prior) for scheme in SCHEMES for prior in ("gaussian", "joint")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of an uninterrupted run, made once for each experiment."""
    done = {}

    def make(scheme, prior):
        if (scheme, prior) not in done:
            done[scheme, prior] = tmp_path_factory.mktemp("whole") / "tiny"
            assert train(tiny(scheme, prior), done[scheme, prior])
        return done[scheme, prior]

    return make


@pytest.mark.parametrize(("scheme", "prior"), COMBINATIONS)
@pytest.mark.parametrize("stops", [(3,), (6,), (9,), (1, 1, 4)], ids=lambda stops: "+".join(map(str, stops)))
def test_a_run_that_was_stopped_equals_one_that_was_not(tmp_path, whole, scheme, prior, stops):
    table, folder = tiny(scheme, prior), tmp_path / "tiny"
    for stop in stops:
        ended = train(table, folder, stop_after=stop)
        if not ended:  # the Gaussian prior's second phase is empty: 6 steps are all
            assert newest(folder).total_step == log(folder)[-1]["total_step"]
    assert newest(folder).total_step == min(sum(stops), log(whole(scheme, prior))[-1]["total_step"])
    assert train(table, folder)
    assert differences(folder, whole(scheme, prior)) == []


def test_a_stop_after_the_very_last_step_leaves_nothing_to_train(tmp_path, whole):
    assert not train(tiny(), tmp_path / "tiny", stop_after=TOTAL)
    before = steps_saved(tmp_path / "tiny")
    assert train(tiny(), tmp_path / "tiny")
    assert steps_saved(tmp_path / "tiny") == before
    assert differences(tmp_path / "tiny", whole("two-phase", "joint")) == []


@pytest.mark.parametrize("every", [1, 5])
def test_how_often_a_run_is_saved_changes_nothing(tmp_path, whole, every):
    assert train(tiny(run={"checkpoint_every": every}), tmp_path / "tiny")
    assert differences(tmp_path / "tiny", whole("two-phase", "joint")) == []


# ---------------------------------------------------------------- negative controls


def no_moments(monkeypatch):
    def load(self, files, whole=GroupState.load):
        whole(self, {**files, f"optimizer-{self.name}": {}})

    monkeypatch.setattr(GroupState, "load", load)


def no_average(monkeypatch):
    def load(self, files, whole=GroupState.load):
        average, self.average = self.average, None
        whole(self, files)
        self.average = average

    monkeypatch.setattr(GroupState, "load", load)


def no_step(monkeypatch):
    def restore(self, checkpoint, whole=Trainer._restore):
        place = whole(self, checkpoint)
        return Place(place.phase, 0, place.total)

    monkeypatch.setattr(Trainer, "_restore", restore)


def no_total_step(monkeypatch):
    def restore(self, checkpoint, whole=Trainer._restore):
        place = whole(self, checkpoint)
        return Place(place.phase, place.step, 0)

    monkeypatch.setattr(Trainer, "_restore", restore)


def no_prior(monkeypatch):
    whole = run_state.save

    def save(folder, checkpoint, keep, run_id):
        first = whole.first_prior if hasattr(whole, "first_prior") else checkpoint.tensors["prior"]
        whole.first_prior = {name: tensor.clone() for name, tensor in first.items()}
        tensors = {**checkpoint.tensors, "prior": whole.first_prior}
        old = Checkpoint(checkpoint.phase, checkpoint.step, checkpoint.total_step, tensors, checkpoint.state)
        return whole(folder, old, keep, run_id)

    monkeypatch.setattr(run_state, "save", save)


@pytest.mark.parametrize("control", [no_moments, no_average, no_step, no_total_step, no_prior])
def test_the_comparison_notices_what_a_checkpoint_leaves_out(tmp_path, whole, monkeypatch, control):
    control(monkeypatch)
    assert not train(tiny(), tmp_path / "tiny", stop_after=9)
    assert train(tiny(), tmp_path / "tiny")
    assert differences(tmp_path / "tiny", whole("two-phase", "joint"))
