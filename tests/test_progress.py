"""What a person sees of training."""

import pytest
import torch

import hebm
from hebm.errors import ConfigError, NonFiniteError
from hebm.model import Model
from hebm.progress import Progress, listener_of
from hebm.report.previews import Previews
from hebm.training.listeners import counted


def test_a_grid_whose_chains_diverge_is_a_message_and_no_end(tmp_path, monkeypatch):
    def diverge(self, n):
        raise NonFiniteError("3 of 64 samples are not finite")

    said = []
    monkeypatch.setattr(Model, "sample", diverge)
    Previews(tmp_path, said.append).previewed(torch.nn.Identity(), torch.nn.Identity(), 7)
    assert said == ["no grid at step 7: 3 of 64 samples are not finite"]
    assert not list(tmp_path.iterdir())


def follow(progress):
    progress.started("prior", 0, 100)
    for step in range(1, 101):
        progress.stepped(0.5)
        progress.logged({"phase": "prior", "step": step, "loss": 0.5, "steps_per_second": 2.0})
    progress.said("a message")
    progress.ended()


def test_lines_say_step_loss_and_the_time_that_is_left(capsys):
    follow(Progress())
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "prior: step 0 of 100"
    assert lines[1] == "prior 10/100 loss 0.5 (2 steps/s, 45 s left)"
    assert lines[-1] == "note: a message"
    assert len(lines) == 12


def test_a_terminal_shows_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    follow(Progress())
    shown = capsys.readouterr().err
    assert "100/100" in shown
    assert "loss=0.5" in shown


def test_quiet_shows_messages_alone(capsys):
    follow(Progress(quiet=True))
    assert capsys.readouterr().err == "note: a message\n"


def test_progress_is_a_switch_or_a_listener():
    mine = hebm.Listener()
    assert listener_of(mine) is mine
    assert not listener_of(True).quiet
    assert listener_of(False).quiet
    with pytest.raises(ConfigError, match=r"expected True, False or a hebm\.Listener, got str"):
        listener_of("bar")


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""
    now = [0.0]
    monkeypatch.setattr("hebm.progress.time.monotonic", lambda: now[0])
    return now


def test_lines_say_how_many_images_are_done_and_count_the_speed_of_new_ones_alone(capsys, clock):
    progress = Progress()
    for done in range(1024, 5001, 512):  # 1024 were kept from an earlier evaluation
        progress.counted("prior", done, 5000)
        clock[0] += 4
    progress.counted("prior", 5000, 5000)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "evaluate: prior 2,048/5,000 images (128 images/s, 23 s left)"
    assert len(lines) == 2  # one after 8 and one after 20 of 28 seconds


def test_what_takes_a_few_seconds_is_done_without_a_word(capsys, clock):
    progress = Progress()
    for what in ("data", "gaussian", "gaussian"):
        for done in (0, 64, 128):
            progress.counted(what, done, 128)
            clock[0] += 2
    assert capsys.readouterr().err == ""


def test_quiet_counts_no_images(capsys, clock):
    progress = Progress(quiet=True)
    for done in (0, 64, 128):
        progress.counted("prior", done, 192)
        clock[0] += 100
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar_of_images_that_is_removed_at_the_end(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("hebm.progress._AFTER", 0.0)
    progress = Progress(task="sample")
    for done in (0, 64, 128):
        progress.counted("prior", done, 128)
    shown = capsys.readouterr().err
    assert "sample: prior" in shown
    assert "64/128" in shown or "0/128" in shown
    assert shown.endswith("\r")


def test_batches_are_counted_by_whoever_computes_them():
    heard = []

    class Hears(hebm.Listener):
        def counted(self, what, done, total):
            heard.append((what, done, total))

    assert list(counted("prior", [(64, 64), (128, 20)], Hears(), 148)) == [(64, 64), (128, 20)]
    assert heard == [("prior", 64, 148), ("prior", 128, 148), ("prior", 148, 148)]
