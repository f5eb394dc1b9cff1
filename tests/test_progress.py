"""What a person sees of training."""

import pytest
import torch

import hebm
from hebm.errors import ConfigError, NonFiniteError
from hebm.model import Model
from hebm.progress import Progress, listener_of
from hebm.report.previews import Previews


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
