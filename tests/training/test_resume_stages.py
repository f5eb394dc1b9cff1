"""R6 for priors that learn by contrast: a stop within a stage, or between two, changes nothing."""

import pytest
from real_runs import TINY, TOTAL, differences, distance, in_two_processes, log, newest, tiny, train

from hebm.stored_runs import read_run

ENERGY = TINY["prior"]["energy"]
STAGES = {
    "type": "multi-stage",
    "stages": 2,
    "contrast": {"negatives": "pool", "pool": 64},
    "energy": ENERGY,
    "sampler": {"type": "ula", "steps": 2},
}
POOL = STAGES["contrast"]
TWO_PHASE = {"backbone": {"steps": 4}, "prior": {"steps": 4}}
PRIORS = {
    "pool": ("two-phase", TWO_PHASE, STAGES),
    "refreshed-pool": ("two-phase", TWO_PHASE, {**STAGES, "contrast": {**POOL, "refresh": 3}}),
    "smc": ("two-phase", TWO_PHASE, {**STAGES, "drawing": {"mode": "smc", "particles": 3}, "contrast": {}}),
    "joint-chain": ("joint", {"steps": 6}, {**STAGES, "contrast": {}}),
    "joint-posterior": ("joint", {"steps": 6}, {**STAGES, "contrast": {"negatives": "posterior", "pool": 300}}),
    "score": (
        "two-phase",
        {"posterior_draws": 2},
        {"type": "score", "width": 8, "depth": 1, "dropout": 0.2, "steps": 3},
    ),
    "ncp": ("two-phase", {}, {"type": "ncp", "proposals": 20, "energy": {**ENERGY, "coordinate": "z-given-above"}}),
}
STOPS = {"two-phase": (5, 8, 10), "joint": (3, 6, 9)}
"""Within stage 1, at its end, within stage 2; of ncp within the backbone's phase or the prior's."""
SEVERAL_STOPS = {"pool", "joint-posterior"}
"""Priors that are stopped everywhere; the others in stage 2 or the prior's phase alone, unless slow tests are run."""
CASES = [
    pytest.param(name, stop, marks=() if stop == STOPS[scheme][-1] or name in SEVERAL_STOPS else pytest.mark.slow)
    for name, (scheme, *_) in PRIORS.items()
    for stop in STOPS[scheme]
]


def experiment(name, **run):
    scheme, steps, prior = PRIORS[name]
    return {**tiny(scheme, train=steps, run=run), "prior": prior}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of an uninterrupted run, made once for each experiment."""
    done = {}

    def make(name):
        if name not in done:
            done[name] = tmp_path_factory.mktemp("whole") / "tiny"
            assert train(experiment(name), done[name])
        return done[name]

    return make


@pytest.mark.parametrize(("name", "stop"), CASES, ids=lambda value: str(value))
def test_a_run_that_was_stopped_equals_one_that_was_not(tmp_path, whole, name, stop):
    assert not train(experiment(name), tmp_path / "tiny", stop_after=stop)
    assert newest(tmp_path / "tiny").total_step == stop
    assert train(experiment(name), tmp_path / "tiny")
    assert differences(tmp_path / "tiny", whole(name)) == []


@pytest.mark.parametrize("name", ["pool", "joint-posterior"])
def test_the_stages_are_phases_of_their_own_and_all_count_at_the_end(whole, name):
    phases = list(dict.fromkeys(line["phase"] for line in log(whole(name))))
    assert phases[-2:] == (["stage 1", "stage 2"] if name == "pool" else ["joint stage 1", "joint stage 2"])
    assert newest(whole(name)).total_step == TOTAL
    assert stages_of(read_run(whole(name)).build_model()) == ["stage 1", "stage 2"]


def stages_of(model):
    """The transitions of a trained model's prior."""
    return [transition.name for transition in model.prior.transitions(model.backbone)]


def test_a_run_that_was_stopped_within_stage_1_draws_from_it_alone(tmp_path):
    assert not train(experiment("pool"), tmp_path / "tiny", stop_after=6)
    model = read_run(tmp_path / "tiny", allow_unfinished=True).build_model()
    assert stages_of(model) == ["stage 1"]
    assert model.sample(3).isfinite().all()


def test_the_comparison_notices_a_bank_that_was_lost(tmp_path, whole, monkeypatch):
    """The negative control: posterior draws of stage 1 that a checkpoint leaves out."""
    from hebm.training.loop import Trainer

    def restore(self, checkpoint, whole=Trainer._restore):
        place = whole(self, checkpoint)
        self.job.model.prior.bank.previous.zero_()
        return place

    assert not train(experiment("joint-posterior"), tmp_path / "tiny", stop_after=9)
    monkeypatch.setattr(Trainer, "_restore", restore)
    assert train(experiment("joint-posterior"), tmp_path / "tiny")
    assert differences(tmp_path / "tiny", whole("joint-posterior"))


@pytest.mark.parametrize("name", ["pool", "ncp"])
def test_two_processes_train_as_one_does(tmp_path, name):
    table = experiment(name, dtype="float64")
    assert train(table, tmp_path / "one")
    in_two_processes(table, tmp_path / "two")
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-9
    for a, b in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-6)
