"""After the last step of a phase its modules are finalized: exactly once, averages too, even if the run is killed."""

import pytest
import torch
from real_runs import differences, log, merged, newest, steps_saved, tiny, train

from hebm import pipeline
from hebm.config.experiment import Experiment
from hebm.errors import CheckpointError
from hebm.store.checkpoints import load
from hebm.store.run_folder import RunFolder
from hebm.stored_runs import read_run
from hebm.training import loop, run_state
from hebm_plugins.two_layer import recipe as two_layer
from hebm_plugins.two_layer.backbone import InferringTwoLayer

PHASE = 6
"""Steps of the backbone's phase."""


class Killed(BaseException):
    """Stands for a kill of the process."""


class Finalizing:
    """A `finalize` that adds noise to every parameter of a backbone, and counts its calls."""

    def __init__(self):
        self.noises, self.backbones, self.deadly = [], [], 0

    def __call__(self, backbone, noise):
        self.noises.append(noise.derive().normal(3))
        self.backbones.append(backbone)
        with torch.no_grad():
            for parameter in backbone.parameters():
                parameter.add_(noise.normal(*parameter.shape), alpha=0.1)
        if len(self.noises) == self.deadly:
            raise Killed


@pytest.fixture
def finalizing(monkeypatch):
    """A subclass, not a patched class: Python remembers which classes have passed `isinstance(…, Finalizes)`."""
    made = Finalizing()
    able = type("FinalizingTwoLayer", (InferringTwoLayer,), {"finalize": lambda self, noise: made(self, noise)})
    monkeypatch.setattr(two_layer, "InferringTwoLayer", able)
    return made


@pytest.fixture
def whole(tmp_path, finalizing):
    """Train a run without interruption, and return its folder."""
    assert train(tiny(run={"keep": 10}), tmp_path / "whole")
    return tmp_path / "whole"


def end_of_first_phase(folder):
    """Return (weights, averaged weights) of the checkpoint after the backbone's last step."""
    found = [path for path in (folder / "checkpoints").iterdir() if path.name.startswith(f"step-{PHASE:08d}")]
    checkpoint = load(max(found), None)
    average = {k.removeprefix("module."): v for k, v in checkpoint.tensors["backbone-ema"].items()}
    return checkpoint.tensors["backbone"], average


def test_trained_and_averaged_weights_are_finalized_once_before_the_phases_last_checkpoint(tmp_path, finalizing):
    assert train(tiny(run={"keep": 10}), tmp_path / "finalized")
    assert len(finalizing.noises) == 2
    assert finalizing.backbones[0] is not finalizing.backbones[1]
    assert torch.equal(*finalizing.noises)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(two_layer, "InferringTwoLayer", InferringTwoLayer)
        assert train(tiny(run={"keep": 10}), tmp_path / "plain")
    for finalized, plain in zip(*map(end_of_first_phase, (tmp_path / "finalized", tmp_path / "plain")), strict=True):
        moved = [
            float((finalized[name] - plain[name]).abs().max()) for name in plain if plain[name].is_floating_point()
        ]
        assert max(moved) > 0.05
        assert max(moved) < 1
    # one checkpoint before the backbone is finalized, one afterwards
    assert steps_saved(tmp_path / "finalized") == [4, 6, 6, 8, 12]
    assert steps_saved(tmp_path / "plain") == [4, 6, 8, 12]


def test_the_prior_learns_on_the_finalized_average(whole):
    _, average = end_of_first_phase(whole)
    assert all(torch.equal(average[name], tensor) for name, tensor in newest(whole).tensors["backbone"].items())


@pytest.mark.parametrize(
    "stops", [(3,), pytest.param((6,), marks=pytest.mark.slow), (6, 1)], ids=lambda stops: "+".join(map(str, stops))
)
def test_a_stop_anywhere_changes_nothing_and_finalizes_nothing_twice(tmp_path, finalizing, whole, stops):
    before = len(finalizing.noises)
    for stop in stops:
        assert not train(tiny(), tmp_path / "tiny", stop_after=stop)
    assert train(tiny(), tmp_path / "tiny")
    assert differences(tmp_path / "tiny", whole) == []
    assert len(finalizing.noises) == before + 2


@pytest.mark.parametrize("deadly", [1, 2], ids=["trained", "averaged"])
@pytest.mark.parametrize("stop", [None, 6], ids=["running", "resumed"])
def test_a_kill_while_it_finalizes_changes_nothing(tmp_path, finalizing, whole, deadly, stop):
    if stop:
        assert not train(tiny(), tmp_path / "tiny", stop_after=stop)
    finalizing.deadly = len(finalizing.noises) + deadly
    with pytest.raises(Killed):
        train(tiny(), tmp_path / "tiny")
    assert train(tiny(), tmp_path / "tiny")
    assert differences(tmp_path / "tiny", whole) == []


def deadly_save(moment, save=run_state.save):
    """Return a `save` that kills the process before or after it writes the first phase's last checkpoint."""

    def deadly(folder, checkpoint, keep, run_id):
        last = checkpoint.step == PHASE and checkpoint.state["finished"]
        if not (last and moment == "before"):
            save(folder, checkpoint, keep, run_id)
        if last:
            raise Killed

    return deadly


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_around_the_checkpoint_that_follows_changes_nothing(tmp_path, monkeypatch, whole, moment):
    with monkeypatch.context() as patch:
        patch.setattr(run_state, "save", deadly_save(moment))
        with pytest.raises(Killed):
            train(tiny(), tmp_path / "tiny")
    assert train(tiny(), tmp_path / "tiny")
    assert differences(tmp_path / "tiny", whole) == []


@pytest.mark.parametrize("twice", [True, False], ids=["twice", "never"])
def test_the_comparison_notices_a_backbone_finalized_twice_or_never(tmp_path, monkeypatch, whole, twice):
    if twice:
        with monkeypatch.context() as patch:
            patch.setattr(run_state, "save", deadly_save("after"))
            with pytest.raises(Killed):
                train(tiny(), tmp_path / "tiny")
    else:
        assert not train(tiny(), tmp_path / "tiny", stop_after=PHASE)
    monkeypatch.setattr(loop, "unfinished", lambda checkpoint, steps: twice)
    train(tiny(), tmp_path / "tiny")
    assert differences(tmp_path / "tiny", whole)


def test_a_run_that_ended_unfinalized_is_not_a_finished_run(tmp_path, finalizing):
    table, folder = tiny("two-phase", "gaussian"), RunFolder(tmp_path / "tiny")
    assert not train({**table, "train": {**table["train"], "prior": {"steps": 0}}}, folder.path, stop_after=PHASE)
    assembly = pipeline.assemble(Experiment.from_table(table))
    run = read_run(folder.path)
    with pytest.raises(CheckpointError, match="finish it with hebm run"):
        run.restore(assembly.model)
    assert train({**table, "train": {**table["train"], "prior": {"steps": 0}}}, folder.path)
    run.restore(assembly.model)
    assert len(finalizing.noises) == 2
    assert len(log(folder.path)) == PHASE


def test_a_backbone_of_another_run_is_finalized_again_and_its_own_run_stays_as_it_was(tmp_path, finalizing):
    source, ours = tmp_path / "tiny", tmp_path / "ours" / "tiny"
    assert train(tiny(), source)
    before = {name: tensor.clone() for name, tensor in newest(source).tensors["backbone"].items()}
    taken = merged(tiny(), {"train": {"backbone_from": str(source)}})
    assert not train(taken, ours, stop_after=2)
    assert train(taken, ours)
    assert len(finalizing.noises) == 3
    after, moved = newest(source).tensors["backbone"], newest(ours).tensors["backbone"]
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert any(not torch.equal(tensor, moved[name]) for name, tensor in before.items())
    assert train(taken, tmp_path / "again" / "tiny")
    assert differences(ours, tmp_path / "again" / "tiny", samples=0) == []


def test_a_scheme_that_trains_the_backbone_to_the_end_finalizes_nothing(tmp_path, finalizing):
    assert train(tiny("variational"), tmp_path / "tiny")
    assert finalizing.noises == []
