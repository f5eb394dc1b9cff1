"""Training goes on while a checkpoint is saved; ends, signals and errors wait for it."""

import threading
import time

import pytest
import torch
from real_runs import Recording, newest, pairs, steps_saved, tiny, train

from hebm.errors import CheckpointError
from hebm.store.checkpoint_writer import CheckpointWriter
from hebm.store.checkpoints import list_checkpoints, load
from hebm.training import run_state
from hebm.training.phase_run import PhaseRun


@pytest.fixture
def slow_disk(monkeypatch):
    """`slow_disk(step)`: the checkpoint of this step is written only when training has taken two more steps.

    With `error`, it is not written. Returns the total steps taken so far.
    """

    def make(step, error=None):
        stepped, taken = threading.Semaphore(0), []

        def save(folder, checkpoint, keep, run_id, whole=run_state.save):
            if checkpoint.total_step == step:
                assert all(stepped.acquire(timeout=30) for _ in range(2))
                if error:
                    raise error
            return whole(folder, checkpoint, keep, run_id)

        def after_step(self, *arguments, whole=PhaseRun._after_step):
            taken.append(self.place.total)
            if self.place.total > step:
                stepped.release()
            whole(self, *arguments)

        monkeypatch.setattr(run_state, "save", save)
        monkeypatch.setattr(PhaseRun, "_after_step", after_step)
        return taken

    return make


def test_training_goes_on_and_the_checkpoint_holds_the_weights_of_its_own_step(tmp_path, slow_disk):
    assert not train(tiny(), tmp_path / "stopped", stop_after=4)
    slow_disk(4)
    assert train(tiny(run={"keep": 10}), tmp_path / "tiny")
    assert steps_saved(tmp_path / "tiny") == [4, 6, 8, 12]
    first = load(list_checkpoints(tmp_path / "tiny" / "checkpoints")[0])
    assert [name for *_, name, a, b in pairs(first, newest(tmp_path / "stopped")) if not torch.equal(a, b)] == []


@pytest.mark.parametrize(("every", "phases"), [(4, 2), (1, 0), (100, 0)])
def test_a_phase_reserves_memory_for_all_its_tensors_if_it_saves_later_in_the_background(
    tmp_path, monkeypatch, every, phases
):
    names = []

    def reserve(self, tensors, whole=CheckpointWriter.reserve):
        names.append({stem: set(part) for stem, part in tensors.items()})
        whole(self, tensors)

    monkeypatch.setattr(CheckpointWriter, "reserve", reserve)
    assert train(tiny(run={"checkpoint_every": every}), tmp_path / "tiny")
    assert len(names) == phases
    saved = {stem: set(part) for stem, part in newest(tmp_path / "tiny").tensors.items()}
    assert names[-1:] in ([], [saved])


def test_an_error_ends_training_by_the_next_save_and_the_last_good_checkpoint_stays(tmp_path, slow_disk):
    table = tiny(train={"backbone": {"steps": 100}}, run={"checkpoint_every": 10})
    taken = slow_disk(20, CheckpointError("cannot save step 20: No space left on device"))
    with pytest.raises(CheckpointError, match="cannot save step 20: No space left on device"):
        train(table, tmp_path / "tiny")
    assert 22 <= taken[-1] <= 30
    assert newest(tmp_path / "tiny").total_step == 10


def test_an_error_of_the_last_save_in_a_phase_reaches_training_at_its_end(tmp_path, slow_disk):
    slow_disk(4, CheckpointError("cannot save step 4"))
    with pytest.raises(CheckpointError, match="cannot save step 4"):
        train(tiny(), tmp_path / "tiny")
    assert newest(tmp_path / "tiny") is None


def fail_after_step_4(monkeypatch):
    def step(self, parts, whole=PhaseRun._step):
        if self.place.total == 4:
            raise ZeroDivisionError
        return whole(self, parts)

    monkeypatch.setattr(PhaseRun, "_step", step)


def test_an_error_of_training_lets_a_save_finish_and_is_the_one_raised(tmp_path, monkeypatch):
    def save(*arguments, whole=run_state.save):
        time.sleep(0.3)
        return whole(*arguments)

    monkeypatch.setattr(run_state, "save", save)
    fail_after_step_4(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        train(tiny(), tmp_path / "tiny")
    assert newest(tmp_path / "tiny").total_step == 4


def test_a_failed_save_does_not_hide_the_error_of_training(tmp_path, monkeypatch):
    def save(*arguments):
        time.sleep(0.3)
        raise CheckpointError("the disk is full")

    monkeypatch.setattr(run_state, "save", save)
    fail_after_step_4(monkeypatch)
    listener = Recording()
    with pytest.raises(ZeroDivisionError):
        train(tiny(), tmp_path / "tiny", listener=listener)
    assert ("said", ("the last checkpoint was not saved: the disk is full",)) in listener.heard


@pytest.mark.parametrize("stop", [5, 6, None], ids=["a signal", "a signal at the end", "no signal"])
def test_signals_and_ends_of_phases_return_with_everything_on_the_disk(tmp_path, monkeypatch, stop):
    def save(folder, checkpoint, keep, run_id, whole=run_state.save):
        time.sleep(0.2)
        return whole(folder, checkpoint, keep, run_id)

    monkeypatch.setattr(run_state, "save", save)
    assert train(tiny(), tmp_path / "tiny", stop_after=stop) == (stop is None)
    assert steps_saved(tmp_path / "tiny") == ([4, stop] if stop else [8, 12])
