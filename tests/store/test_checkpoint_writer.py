"""Checkpoints are saved in the background: a copy, one at a time, and no error is lost."""

import signal
import threading
import time
from contextlib import contextmanager

import pytest
import torch
from checkpoint_cases import RUN, make, refuse, same

from hebm.errors import CheckpointError
from hebm.store.checkpoint_writer import CheckpointWriter, copied, reserved
from hebm.store.checkpoints import Checkpoint, load_latest, save


class Disk:
    """Saves to a folder once it is released, and fails when told to."""

    def __init__(self, folder):
        self.folder, self.fails = folder, False
        self.started, self.released, self.busy, self.most = [], threading.Semaphore(0), 0, 0

    def write(self, checkpoint):
        self.started.append(checkpoint.step)
        self.busy += 1
        self.most = max(self.most, self.busy)
        assert self.released.acquire(timeout=30)
        self.busy -= 1
        if self.fails:
            raise CheckpointError(f"cannot save step {checkpoint.step}")
        save(self.folder, checkpoint, 2, RUN)

    def release(self, count=1):
        self.released.release(count)


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path)
    yield disk
    disk.release(10)


@pytest.fixture
def writer(disk):
    return CheckpointWriter(disk.write)


def newest(disk):
    return load_latest(disk.folder, RUN, refuse)


@contextmanager
def later(action):
    """Call `action` on another thread while the context waits."""
    timer = threading.Timer(0.1, action)
    timer.start()
    yield
    timer.join()


def test_a_save_in_the_background_returns_before_anything_is_written(disk, writer):
    writer.start(make(1))
    writer.check()
    assert newest(disk) is None
    disk.release()
    writer.wait()
    assert same(newest(disk), make(1))


def test_what_is_saved_are_the_values_at_the_call(disk, writer):
    live = make(1)
    writer.start(live)
    for tensors in live.tensors.values():
        for tensor in tensors.values():
            tensor.add_(1)
    disk.release()
    writer.wait()
    assert same(newest(disk), make(1))


WEIGHT = torch.nn.Parameter(torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last))
TENSORS = {
    "w": WEIGHT,
    "again": WEIGHT,
    "n": torch.tensor(3),
    "half": torch.ones(3).bfloat16(),
    "expanded": torch.ones(1, 3).expand(4, 3),
    "empty": torch.empty(0, 3),
}


@pytest.mark.parametrize("again", [False, True], ids=["new memory", "the same memory"])
def test_a_copy_keeps_values_types_and_strides(again):
    memory = copied({name: torch.zeros_like(tensor) for name, tensor in TENSORS.items()}, {}) if again else {}
    copy = copied(TENSORS, memory)
    assert all(torch.equal(copy[name], TENSORS[name]) for name in TENSORS)
    assert [copy[name].dtype for name in TENSORS] == [tensor.dtype for tensor in TENSORS.values()]
    assert copy["w"].stride() == WEIGHT.stride()
    assert not copy["w"].requires_grad
    assert {tensor.data_ptr() for tensor in copy.values()} & {tensor.data_ptr() for tensor in TENSORS.values()} <= {0}
    assert not again or all(copy[name] is memory[name] for name in ("w", "n", "half"))


def test_reserved_memory_is_what_a_copy_fills_and_what_fits_is_kept():
    memory = reserved(TENSORS, {"half": torch.ones(3).bfloat16(), "n": torch.zeros(2)})
    copy = copied(TENSORS, memory)
    assert all(copy[name] is memory[name] for name in ("w", "again", "n", "half"))
    assert all(torch.equal(copy[name], TENSORS[name]) for name in TENSORS)
    again = reserved(TENSORS, memory)
    assert all(again[name] is memory[name] for name in ("w", "n", "half"))


def test_a_save_fills_the_memory_that_was_reserved(disk, writer):
    writer.reserve(make(1).tensors)
    writer.wait()
    memory = {stem: {name: copy.data_ptr() for name, copy in part.items()} for stem, part in writer._copies.items()}
    writer.start(make(1))
    disk.release()
    writer.wait()
    assert memory == {
        stem: {name: copy.data_ptr() for name, copy in part.items()} for stem, part in writer._copies.items()
    }
    assert same(newest(disk), make(1))


def test_memory_that_cannot_be_reserved_is_an_error_of_the_next_call(writer, monkeypatch):
    def fails(*_):
        raise MemoryError("no memory for the copy")

    monkeypatch.setattr("hebm.store.checkpoint_writer.reserved", fails)
    writer.reserve(make(1).tensors)
    with pytest.raises(MemoryError, match="no memory for the copy"):
        writer.start(make(1))


@pytest.mark.parametrize("other", [torch.zeros(3), torch.zeros(2, dtype=torch.int32), torch.zeros(4)[::2]])
def test_a_tensor_of_another_form_gets_new_memory(other):
    memory = {"w": torch.ones(2)}
    copy = copied({"w": other}, memory)["w"]
    assert torch.equal(copy, other)
    assert torch.equal(memory["w"], torch.ones(2))


def test_copies_of_files_that_are_gone_are_freed_and_all_at_the_end(disk, writer):
    disk.release(3)
    with writer.finishing(refuse):
        writer.start(make(1))
        writer.start(Checkpoint("p", 2, 2, {"other": {"w": torch.ones(2)}}))
        writer.wait()
        assert list(writer._copies) == ["other"]
    assert writer._copies == {}
    assert newest(disk).tensors["other"]["w"].tolist() == [1, 1]


@pytest.mark.parametrize("second", ["start", "save"])
def test_a_second_save_waits_for_the_first(disk, writer, second):
    writer.start(make(1))
    with later(lambda: disk.release(2)):
        getattr(writer, second)(make(2))
    writer.wait()
    assert disk.started == [1, 2]
    assert disk.most == 1
    assert same(newest(disk), make(2))


def test_a_save_at_once_returns_when_it_is_written_and_copies_nothing(disk):
    seen = []
    writer = CheckpointWriter(seen.append)
    checkpoint = make(1)
    writer.save(checkpoint)
    assert seen[0] is checkpoint


def fail(disk, writer):
    disk.fails = True
    writer.start(make(1))
    disk.release(5)
    deadline = time.monotonic() + 30
    while not writer._pending.done():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    disk.fails = False


@pytest.mark.parametrize("call", ["start", "save", "check", "wait"])
def test_an_error_reaches_the_next_call_once(disk, writer, call):
    fail(disk, writer)
    with pytest.raises(CheckpointError, match="cannot save step 1"):
        getattr(writer, call)(*[make(2)] * (call in ("start", "save")))
    assert disk.started == [1]
    writer.check()
    writer.save(make(3))
    assert same(newest(disk), make(3))


def interrupt():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@pytest.fixture
def interruptible():
    """Python's own handler, since a shell starts a command in the background with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_signal_while_waiting_does_not_forget_the_checkpoint(disk, writer):
    writer.start(make(1))
    with later(interrupt), pytest.raises(KeyboardInterrupt):
        writer.wait()
    disk.release()
    writer.wait()
    assert same(newest(disk), make(1))


def train(disk, writer, said, error=None):
    """Save in the background, and end while the disk is at work."""
    with writer.finishing(said.append):
        writer.start(make(1))
        if error:
            raise error


def test_the_end_of_a_context_waits_for_the_disk(disk, writer):
    with later(disk.release):
        train(disk, writer, [])
    assert same(newest(disk), make(1))


def test_the_end_of_a_context_raises_the_error_of_saving(disk, writer):
    disk.fails = True
    with later(disk.release), pytest.raises(CheckpointError, match="cannot save step 1"):
        train(disk, writer, [])


def test_an_error_of_saving_does_not_hide_the_error_before_it(disk, writer):
    said, disk.fails = [], True
    with later(disk.release), pytest.raises(ZeroDivisionError):
        train(disk, writer, said, ZeroDivisionError())
    assert said == ["the last checkpoint was not saved: cannot save step 1"]


def test_after_another_error_the_checkpoint_is_still_saved(disk, writer):
    with later(disk.release), pytest.raises(ZeroDivisionError):
        train(disk, writer, [], ZeroDivisionError())
    assert same(newest(disk), make(1))
