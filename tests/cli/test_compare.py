import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hebm.cli import compare
from hebm.cli.main import main

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from finished_run import finished_run


@pytest.fixture
def folders(tmp_path):
    return [str(finished_run(tmp_path, name=name, seed=seed).path) for seed, name in enumerate(("first", "second"))]


def test_compare_prints_the_table_and_writes_what_is_asked_for(folders, tmp_path):
    page, sheet = tmp_path / "compare.html", tmp_path / "compare.csv"
    result = CliRunner().invoke(main, ["compare", *folders, "-o", str(page), "-o", str(sheet)])
    assert result.exit_code == 0, result.output
    names = [line.split()[0] for line in result.output.splitlines() if not line.startswith(" ")]
    assert names[:4] == ["run", "first", "second", "mean"]
    assert page.stat().st_size > 10_000
    assert sheet.read_text().startswith("run,")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_gets_lines_of_its_width_and_a_pipe_gets_whole_rows(folders, terminal, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    compare.command.main(folders, standalone_mode=False)
    longest = max(map(len, capsys.readouterr().out.splitlines()))
    assert longest <= 90 if terminal else longest > 90


def test_figures_that_do_not_mean_the_same_are_refused_unless_asked_for(folders, tmp_path):
    other = str(finished_run(tmp_path, name="other", n=50000).path)
    refused = CliRunner().invoke(main, ["compare", *folders, other])
    assert refused.exit_code == 2
    assert "n: first has 2000, second has 2000, other has 50000" in refused.output
    shown = CliRunner().invoke(main, ["compare", *folders, other, "--anyway"])
    assert shown.exit_code == 0
    assert "measured differently: n:" in shown.output


def test_a_run_that_is_not_there_is_named(folders, tmp_path):
    result = CliRunner().invoke(main, ["compare", folders[0], str(tmp_path / "missing")])
    assert result.exit_code == 1
    assert "missing is not a run folder" in result.output


def test_runs_are_held_against_what_was_measured_before_and_the_exit_status_says_the_outcome(tmp_path):
    def runs(place, gap, **more):
        made = [(seed, gap + 0.01 * seed) for seed in range(3)]
        options = {"with_samples": False, **more}
        return [str(finished_run(tmp_path / place, f"t-joint-{s}", s, gap=g, **options).path) for s, g in made]

    before, committed = runs("before", 0.8), str(tmp_path / "t.measurements")
    assert CliRunner().invoke(main, ["compare", *before, "-o", committed]).exit_code == 0
    held = CliRunner().invoke(main, ["compare", *before, "--against", committed])
    assert (held.exit_code, "0 of 3 numbers are outside noise" in held.stdout) == (0, True)
    worse = CliRunner().invoke(main, ["compare", *runs("worse", 0.2), "--against", committed])
    assert (worse.exit_code, "outside noise: worse" in worse.stdout) == (1, True)
    other = CliRunner().invoke(main, ["compare", *runs("other", 0.8, n=64), "--against", f"{committed}/joint.json"])
    assert (other.exit_code, "n: 64 now, 2000 committed" in other.stderr) == (2, True)
