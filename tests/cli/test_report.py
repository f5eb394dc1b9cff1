import sys
from pathlib import Path

from click.testing import CliRunner

from hebm.cli.main import main

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from finished_run import finished_run


def test_report_draws_the_page_anew_and_says_where_it_is(tmp_path):
    folder = finished_run(tmp_path)
    result = CliRunner().invoke(main, ["report", str(folder.path)])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(folder.report)
    assert "<title>demo" in folder.report.read_text()


def test_a_folder_that_is_no_run_is_an_error_without_traceback(tmp_path):
    result = CliRunner().invoke(main, ["report", str(tmp_path)])
    assert result.exit_code == 1
    assert "is not a run folder" in result.output
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())
