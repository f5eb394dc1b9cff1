"""R3: whatever call fails while saving, the error is clear and the last good checkpoint whole."""

import builtins
import errno
import os

import pytest
from checkpoint_cases import RUN, make, names, refuse, same

from hebm.errors import CheckpointError
from hebm.store import durable
from hebm.store.checkpoint_writer import CheckpointWriter
from hebm.store.checkpoints import list_checkpoints, load_latest, save, verify


class Faults:
    """Makes the k-th call to the operating system fail, or every call from the k-th on."""

    CALLS = ("mkdir", "fsync", "rename", "open", "rmdir", "unlink")

    def __init__(self, monkeypatch, error):
        self.error, self.calls, self.at, self.last = error, 0, None, None
        for name in self.CALLS:
            monkeypatch.setattr(os, name, self.wrap(getattr(os, name)))
        monkeypatch.setattr(durable, "open", self.wrap(builtins.open), raising=False)

    def wrap(self, call):
        def faulty(*args, **kwargs):
            self.calls += 1
            if self.at is not None and self.at <= self.calls <= self.last:
                raise OSError(self.error, os.strerror(self.error))
            return call(*args, **kwargs)

        return faulty

    def arm(self, at, last):
        self.calls, self.at, self.last = 0, at, last


def failure(folder):
    """Save in the background; return the message of the error that reaches the one who waits."""
    writer = CheckpointWriter(lambda checkpoint: save(folder, checkpoint, 2, RUN))
    writer.start(make(3))
    try:
        writer.wait()
    except CheckpointError as error:
        return str(error)
    return None


@pytest.mark.parametrize("forever", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES], ids=errno.errorcode.get)
def test_whatever_call_fails_while_saving_the_error_is_clear_and_the_last_good_one_whole(
    tmp_path, monkeypatch, error, forever
):
    faults = Faults(monkeypatch, error)
    at = failures = 0
    while True:
        at += 1
        faults.arm(None, None)
        folder = tmp_path / str(at)
        for step in (1, 2):
            save(folder, make(step), 2, RUN)
        faults.arm(at, 10**9 if forever else at)
        message = failure(folder)
        failures += message is not None
        assert message is None or (os.strerror(error) in message and str(folder) in message)
        reached = faults.calls >= at
        faults.arm(None, None)
        found = load_latest(folder, RUN, refuse)
        assert same(found, make(found.total_step))
        assert found.total_step >= 2
        assert all(verify(path) == [] for path in list_checkpoints(folder))
        if not reached:
            break
    assert failures > 10


def test_after_a_failure_the_next_save_works_and_leaves_no_rubbish(tmp_path, monkeypatch):
    save(tmp_path, make(1), 2, RUN)
    with monkeypatch.context() as patch:
        Faults(patch, errno.ENOSPC).arm(4, 10**9)
        with pytest.raises(CheckpointError, match=r"cannot save step 2 in .*No space left on device; free space"):
            save(tmp_path, make(2), 2, RUN)
    save(tmp_path, make(2), 2, RUN)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_a_path_through_a_file_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match=r"cannot save step 1 in .*file"):
        save(tmp_path / "file" / "checkpoints", make(1), 2, RUN)
