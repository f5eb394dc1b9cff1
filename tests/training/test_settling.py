"""Once a phase's steps are done it is finished: exactly once, on averages too, whenever the run is killed."""

import pytest
import torch
from real_runs import differences, log, merged, newest, steps_saved, tiny, train

from hebm import pipeline
from hebm.config.experiment import from_table
from hebm.errors import CheckpointError
from hebm.store.checkpoints import load
from hebm.store.run_folder import RunFolder
from hebm.training import loop
from hebm_plugins.two_layer.backbone import TwoLayerBackbone

PHASE = 6
"""Steps of the backbone's phase."""


class Killed(BaseException):
    """The process is gone."""


class Settling:
    """Adds noise to every parameter of a backbone, and counts."""

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
def settling(monkeypatch):
    made = Settling()
    monkeypatch.setattr(TwoLayerBackbone, "finalize", lambda self, noise: made(self, noise), raising=False)
    return made


@pytest.fixture
def whole(tmp_path, settling):
    """An uninterrupted run."""
    assert train(tiny(run={"keep": 10}), tmp_path / "whole")
    return tmp_path / "whole"


def end_of_first_phase(folder):
    """(weights, averaged weights) of the checkpoint after the backbone's last step."""
    found = [path for path in (folder / "checkpoints").iterdir() if path.name.startswith(f"step-{PHASE:08d}")]
    checkpoint = load(max(found), None)
    average = {k.removeprefix("module."): v for k, v in checkpoint.tensors["backbone-ema"].items()}
    return checkpoint.tensors["backbone"], average


def test_trained_and_averaged_weights_are_settled_once_before_the_phases_last_checkpoint(tmp_path, settling):
    assert train(tiny(run={"keep": 10}), tmp_path / "settled")
    assert len(settling.noises) == 2
    assert settling.backbones[0] is not settling.backbones[1]
    assert torch.equal(*settling.noises)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TwoLayerBackbone, "finalize", lambda self, noise: None)
        assert train(tiny(run={"keep": 10}), tmp_path / "plain")
    for settled, plain in zip(*map(end_of_first_phase, (tmp_path / "settled", tmp_path / "plain")), strict=True):
        moved = [float((settled[name] - plain[name]).abs().max()) for name in plain if plain[name].is_floating_point()]
        assert max(moved) > 0.05
        assert max(moved) < 1
    assert steps_saved(tmp_path / "settled") == steps_saved(tmp_path / "plain") == [4, 6, 8, 12]


def test_the_prior_learns_on_the_settled_average(whole):
    _, average = end_of_first_phase(whole)
    assert all(torch.equal(average[name], tensor) for name, tensor in newest(whole).tensors["backbone"].items())


@pytest.mark.parametrize("stops", [(3,), (6,), (6, 1)], ids=lambda stops: "+".join(map(str, stops)))
def test_a_stop_anywhere_changes_nothing_and_settles_nothing_twice(tmp_path, settling, whole, stops):
    before = len(settling.noises)
    for stop in stops:
        assert not train(tiny(), tmp_path / "tiny", stop_after=stop)
    assert train(tiny(), tmp_path / "tiny")
    assert differences(tmp_path / "tiny", whole) == []
    assert len(settling.noises) == before + 2


@pytest.mark.parametrize("deadly", [1, 2], ids=["trained", "averaged"])
@pytest.mark.parametrize("stop", [None, 6], ids=["running", "resumed"])
def test_a_kill_while_it_settles_changes_nothing(tmp_path, settling, whole, deadly, stop):
    if stop:
        assert not train(tiny(), tmp_path / "tiny", stop_after=stop)
    settling.deadly = len(settling.noises) + deadly
    with pytest.raises(Killed):
        train(tiny(), tmp_path / "tiny")
    assert train(tiny(), tmp_path / "tiny")
    assert differences(tmp_path / "tiny", whole) == []


def deadly_save(moment, save=loop.save):
    """Saving, but for the first phase's last checkpoint: the process is killed before or after it."""

    def deadly(folder, checkpoint, keep, run_id):
        last = checkpoint.step == PHASE
        if not (last and moment == "before"):
            save(folder, checkpoint, keep, run_id)
        if last:
            raise Killed

    return deadly


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_around_the_checkpoint_that_follows_changes_nothing(tmp_path, monkeypatch, whole, moment):
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save", deadly_save(moment))
        with pytest.raises(Killed):
            train(tiny(), tmp_path / "tiny")
    assert train(tiny(), tmp_path / "tiny")
    assert differences(tmp_path / "tiny", whole) == []


@pytest.mark.parametrize("twice", [True, False], ids=["twice", "never"])
def test_the_comparison_notices_a_backbone_settled_twice_or_never(tmp_path, monkeypatch, whole, twice):
    if twice:
        with monkeypatch.context() as patch:
            patch.setattr(loop, "save", deadly_save("after"))
            with pytest.raises(Killed):
                train(tiny(), tmp_path / "tiny")
    else:
        assert not train(tiny(), tmp_path / "tiny", stop_after=PHASE)
    monkeypatch.setattr(loop, "unfinished", lambda checkpoint, phase: twice)
    train(tiny(), tmp_path / "tiny")
    assert differences(tmp_path / "tiny", whole)


def test_a_run_that_ended_unsettled_is_not_a_finished_run(tmp_path, settling):
    table, folder = tiny("two-phase", "gaussian"), RunFolder(tmp_path / "tiny")
    assert not train({**table, "train": {**table["train"], "prior": {"steps": 0}}}, folder.path, stop_after=PHASE)
    assembly = pipeline.assemble(from_table(table))
    run_id = folder.read_manifest()["run_id"]
    with pytest.raises(CheckpointError, match="finish it with hebm run"):
        pipeline.restore(assembly, folder, run_id)
    assert train({**table, "train": {**table["train"], "prior": {"steps": 0}}}, folder.path)
    pipeline.restore(assembly, folder, run_id)
    assert len(settling.noises) == 2
    assert len(log(folder.path)) == PHASE


def test_a_backbone_of_another_run_is_settled_anew_and_its_own_run_stays_as_it_was(tmp_path, settling):
    source, ours = tmp_path / "tiny", tmp_path / "ours" / "tiny"
    assert train(tiny(), source)
    before = {name: tensor.clone() for name, tensor in newest(source).tensors["backbone"].items()}
    taken = merged(tiny(), {"train": {"backbone_from": str(source)}})
    assert not train(taken, ours, stop_after=2)
    assert train(taken, ours)
    assert len(settling.noises) == 3
    after, moved = newest(source).tensors["backbone"], newest(ours).tensors["backbone"]
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert any(not torch.equal(tensor, moved[name]) for name, tensor in before.items())
    assert train(taken, tmp_path / "again" / "tiny")
    assert differences(ours, tmp_path / "again" / "tiny", samples=0) == []


def test_a_scheme_that_trains_the_backbone_to_the_end_settles_nothing(tmp_path, settling):
    assert train(tiny("variational"), tmp_path / "tiny")
    assert settling.noises == []
