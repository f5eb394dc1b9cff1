"""`hebm.check`: what a run would need, as a value that prints."""

import pytest
from real_runs import tiny

import hebm
from hebm.errors import ConfigError


def test_a_check_returns_the_lines_that_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    found = hebm.check(hebm.Experiment.from_table(tiny()), said.append)
    assert str(found) == "\n".join(said)
    for part in ("prior joint", "  energy mlp", "D = 8", "phase prior: 6 steps in a run", "64 samples drawn"):
        assert part in str(found)
    assert not list(tmp_path.iterdir())


def test_what_does_not_fit_is_an_error_that_a_run_would_give():
    with pytest.raises(ConfigError, match="no transition 'stage 3'"):
        hebm.check(hebm.Experiment.from_table(tiny(evaluate={"after": "stage 3"})))
    with pytest.raises(ConfigError, match=r"expected a hebm\.Experiment, got dict"):
        hebm.check(tiny())
