"""`hebm.compare` makes the table of several runs."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "report"))
from finished_run import finished_run, named_evaluation

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


def test_evaluations_with_a_name_are_rows_and_those_measured_differently_are_left_out_with_the_reason(tmp_path):
    for seed, gap in enumerate((0.8, 0.9)):
        folder = finished_run(tmp_path, f"r{seed}", seed, with_samples=False)
        named_evaluation(folder, "k100", gap=gap, chain_steps=100)
        named_evaluation(folder, "big", n=50000)
    found = hebm.compare([tmp_path / "r0", tmp_path / "r1"], baseline="r")
    names = [row[0] for row in found.table.rows]
    assert names == ["r0, k100", "r1, k100", "r0", "r1", "mean ± sd of r0, k100 …", "mean ± sd of r0 …"]
    assert found.table.differences.rows[0][:2] == ("r, k100", "2")
    assert [line.partition(" is left out")[0] for line in found.left_out] == ["r0, big", "r1, big"]
    assert "n: r0 has 2000" in found.left_out[0]
    both = hebm.compare([tmp_path / "r0", tmp_path / "r1"], anyway=True)
    assert (len(both.runs), both.left_out) == (6, ())


def test_an_unknown_baseline_is_an_error(folders):
    with pytest.raises(ConfigError, match="baseline: 'c' is not a name"):
        hebm.compare(folders, baseline="c")


def test_what_is_not_a_list_of_evaluated_runs_is_an_error(folders, tmp_path):
    for wrong in (folders[0], str(folders[0]), []):
        with pytest.raises(ConfigError, match="expected a list of runs"):
            hebm.compare(wrong)
    with pytest.raises(HebmError, match="is not a run folder"):
        hebm.compare([tmp_path / "none"])
