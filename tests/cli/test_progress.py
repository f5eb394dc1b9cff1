"""What a person sees of training."""

import torch

from hebm.cli.progress import Progress
from hebm.errors import NonFiniteError
from hebm.model import Model


def test_a_grid_whose_chains_diverge_is_a_note_and_no_end(tmp_path, monkeypatch, capsys):
    def diverge(self, n):
        raise NonFiniteError("3 of 64 samples are not finite")

    monkeypatch.setattr(Model, "sample", diverge)
    Progress(tmp_path, lambda record: None).previewed(torch.nn.Identity(), torch.nn.Identity(), 7)
    assert capsys.readouterr().err == "note: no grid at step 7: 3 of 64 samples are not finite\n"
    assert not list(tmp_path.iterdir())


def test_lines_say_step_loss_and_the_time_that_is_left(tmp_path, capsys):
    given = []
    progress = Progress(tmp_path, given.append)
    progress.started("prior", 0, 100)
    for step in range(1, 101):
        progress.stepped(0.5)
        progress.logged({"phase": "prior", "step": step, "loss": 0.5, "steps_per_second": 2.0})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "prior: step 0 of 100"
    assert lines[1] == "prior 10/100 loss 0.5 (2 steps/s, 45 s left)"
    assert len(lines) == 11
    assert len(given) == 100
