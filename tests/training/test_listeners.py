"""Training is followed on the main process only."""

import inspect
from types import SimpleNamespace

import pytest
from real_runs import Recording

from hebm.training.job import TrainingJob
from hebm.training.listeners import Listener, Listeners
from hebm.training.run_state import RunState

EVENTS = [name for name, member in vars(Listener).items() if inspect.isfunction(member) and name[0] != "_"]


def arguments_of(event):
    return [object() for _ in list(inspect.signature(getattr(Listener, event)).parameters)[1:]]


def test_a_listener_ignores_what_it_does_not_override():
    assert set(EVENTS) == {"started", "stepped", "logged", "previewed", "counted", "said", "ended"}
    for event in EVENTS:
        assert getattr(Listener(), event)(*arguments_of(event)) is None


@pytest.mark.parametrize("event", EVENTS)
def test_several_listeners_are_all_told_everything(event):
    first, second, arguments = Recording(), Recording(), arguments_of(event)
    getattr(Listeners([first, second]), event)(*arguments)
    assert first.heard == second.heard == [(event, tuple(arguments))]


@pytest.mark.parametrize(("rank", "heard"), [(0, 1), (1, 0)])
def test_only_the_main_process_writes_the_log_and_tells_the_listener(assembled, tmp_path, rank, heard):
    assembly = assembled("two-phase")[0]
    folder = SimpleNamespace(metrics_log=tmp_path / "metrics.jsonl")
    job = TrainingJob(assembly.model, assembly.phases, None, folder, "id", assembly.experiment.run, 0)
    listener = Recording()
    processes = SimpleNamespace(device="cpu", is_main_process=rank == 0, process_index=rank, num_processes=2)
    RunState(job, processes, listener, lambda: 0).record({"total_step": 1})
    assert listener.heard == [("logged", ({"total_step": 1},))] * heard
    assert folder.metrics_log.exists() == bool(heard)
