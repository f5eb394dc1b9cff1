"""`run.threads = "auto"` and `hebm.check` compare one thread with all, and a run keeps the number it started with."""

import json
from types import SimpleNamespace

import pytest
import torch
from real_runs import tiny

import hebm
from hebm import locked_runs, pipeline, thread_times, threads
from hebm.pipeline import assemble
from hebm.thread_times import ThreadTimes, measured_threads


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """A machine with two threads, whatever this one has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    for module in (threads, thread_times, locked_runs):
        monkeypatch.setattr(module, "machine_threads", lambda: 2)
    yield
    torch.set_num_threads(before)


def test_more_threads_are_chosen_only_if_they_are_clearly_faster():
    assert ThreadTimes({1: 1.0, 2: 0.5}).best == 2
    assert ThreadTimes({1: 1.0, 2: 0.98}).best == 1
    assert ThreadTimes({1: 1.0, 2: 1.5}).best == 1
    assert str(ThreadTimes({1: 10.0, 2: 15.0})) == "training with 1 thread is 1.50 times as fast as with 2 threads"
    assert ThreadTimes({1: 10.0, 2: 15.0}).to_json() == {"best": 1, "seconds": {"1": 10.0, "2": 15.0}}


def test_the_measurement_changes_neither_the_model_nor_the_number_of_threads():
    assembly = assemble(hebm.Experiment.from_table(tiny()))
    before = {name: value.clone() for name, value in assembly.model.state_dict().items()}
    accelerator = pipeline.make_accelerator(assembly.experiment.run)
    steps = [phase.steps for phase in assembly.phases]
    found = measured_threads(assembly, accelerator)
    assert set(found.seconds) == {1, 2}
    assert min(found.seconds.values()) > 0
    assert torch.get_num_threads() == 2
    assert all(torch.equal(value, before[name]) for name, value in assembly.model.state_dict().items())
    assert [phase.steps for phase in assembly.phases] == steps
    assert all(parameter.requires_grad for parameter in assembly.model.parameters())


def test_there_is_nothing_to_measure_on_a_gpu_or_with_one_thread(monkeypatch):
    gpu = SimpleNamespace(device=torch.device("cuda"), num_processes=1)
    assert measured_threads(None, gpu) is None
    torch.set_num_threads(1)
    monkeypatch.setattr(thread_times, "machine_threads", lambda: 1)
    assert measured_threads(None, SimpleNamespace(device=torch.device("cpu"), num_processes=1)) is None


def trained(folder, monkeypatch, best, **run):
    """The run of a tiny experiment, where a measurement would find `best` threads fastest."""
    found = ThreadTimes({1: 1.0, 2: 0.5 if best == 2 else 2.0})
    monkeypatch.setattr(locked_runs, "measured_threads", lambda *_: found)
    return hebm.train(hebm.Experiment.from_table(tiny(run=run)), folder, progress=False)


def test_auto_records_the_faster_number_and_a_resumed_run_keeps_it(tmp_path, monkeypatch, capsys):
    run = trained(tmp_path / "a", monkeypatch, 1, threads="auto")
    assert torch.get_num_threads() == 1
    assert "the run uses 1" in capsys.readouterr().err
    torch.set_num_threads(2)
    again = trained(tmp_path / "a", monkeypatch, 2, threads="auto")
    assert torch.get_num_threads() == 1
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert (manifest["threads"], manifest["history"]) == (1, [])
    same = trained(tmp_path / "b", monkeypatch, 2, threads=1).model.state_dict()
    for model in (run.model, again.model):
        assert all(torch.equal(value, same[name]) for name, value in model.state_dict().items())


def test_a_measurement_uses_the_recorded_number_too(tmp_path, monkeypatch):
    run = trained(tmp_path / "a", monkeypatch, 1, threads="auto")
    torch.set_num_threads(2)
    run.evaluate(progress=False)
    assert torch.get_num_threads() == 1


def test_a_check_names_the_faster_number_and_the_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hebm.checking.measured_threads", lambda *_: ThreadTimes({1: 1.0, 2: 1.2}))
    found = hebm.check(hebm.Experiment.from_table(tiny()))
    assert "threads: training with 1 thread is 1.20 times as fast as with 2 threads" in found.lines
    assert any("set run.threads = 1" in note for note in found.notes)
    assert found.to_json()["threads"]["best"] == 1
    quiet = hebm.check(hebm.Experiment.from_table(tiny(run={"threads": "auto"})))
    assert not any("run.threads" in note for note in quiet.notes)
