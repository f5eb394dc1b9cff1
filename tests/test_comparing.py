"""Runs compared in Python."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "report"))
from finished_run import finished_run

import hebm
from hebm.errors import ConfigError, HebmError


@pytest.fixture
def folders(tmp_path):
    return [finished_run(tmp_path, name=name, prior=prior).path for name, prior in (("a", "joint"), ("b", "gaussian"))]


def test_a_comparison_prints_as_the_command_does_and_is_saved(folders, tmp_path):
    from real_runs import hebm as command

    found = hebm.compare(folders)
    assert str(found) == command("compare", *folders).stdout.rstrip("\n")
    assert [run.name for run in found.runs] == ["a", "b"]
    assert "<td>a</td>" in found._repr_html_()
    found.save(tmp_path / "table.md")
    assert "| a " in (tmp_path / "table.md").read_text()
    with pytest.raises(ConfigError, match="ending must be one of"):
        found.save(tmp_path / "table.doc")


def test_numbers_measured_differently_are_refused_unless_asked_for(folders, tmp_path):
    other = finished_run(tmp_path, name="c", n=64).path
    with pytest.raises(ConfigError, match=r"(?s)cannot be compared.*n: a has"):
        hebm.compare([folders[0], other])
    assert hebm.compare([folders[0], other], anyway=True).differing


def test_what_is_not_a_list_of_evaluated_runs_is_an_error(folders, tmp_path):
    for wrong in (folders[0], str(folders[0]), []):
        with pytest.raises(ConfigError, match="expected a list of runs"):
            hebm.compare(wrong)
    with pytest.raises(HebmError, match="is not a run folder"):
        hebm.compare([tmp_path / "none"])
