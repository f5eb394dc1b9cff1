"""A metric that the core has never heard of: its measurements are in the table, on the page and in `hebm compare`."""

import csv
import json

import pytest
from click.testing import CliRunner
from real_runs import tiny, write_config

from hebm import registry
from hebm.cli.main import main
from hebm.config.recipes import option, recipe
from hebm.evaluation.metric import Measurement, MetricRecipe


@recipe
class Contrast(MetricRecipe):
    """Mean over images of (standard deviation of the pixels)^power."""

    power: float = option(1.0, above=0, doc="exponent")

    def compute(self, evaluation):
        """Measure `contrast` of the data and of both priors."""
        return [self._of(evaluation, kind) for kind in ("data", "gaussian", "prior")]

    def _of(self, evaluation, kind):
        contrast = (evaluation.pixels(kind).double().flatten(1) / 255).std(1) ** self.power
        error, conditions = contrast.std() / len(contrast) ** 0.5, {"power": self.power}
        return Measurement(
            "contrast", contrast.mean(), "contrast", error, "grey", kind, better="higher", conditions=conditions
        )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(folder of runs of two seeds and of another option, what the first run printed)."""
    folder = tmp_path_factory.mktemp("runs")
    registry.register("hebm_metrics", "contrast", Contrast)
    try:
        config = write_config(folder, tiny(evaluate={"samples": 64, "metrics": ["contrast"]}))
        printed = hebm("run", config, "--runs", folder, "--set", "name=r0")
        hebm("run", config, "--runs", folder, "--set", "name=r1", "--set", "seed=1")
        squared = 'evaluate.metrics=[{type="contrast", power=2.0}]'
        hebm("run", config, "--runs", folder, "--set", "name=squared", "--set", squared)
    finally:
        registry.unregister("hebm_metrics", "contrast")
    return folder, printed


def hebm(*arguments, status=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.output


def measured(run):
    found = json.loads((run / "metrics.json").read_text())["measurements"]
    return {entry["kind"]: entry for entry in found if entry["name"] == "contrast"}


def test_the_table_on_the_terminal_has_a_line_for_each_kind_with_error_unit_and_direction(runs):
    lines = [" ".join(line.split()) for line in runs[1].splitlines()]
    start = lines.index("contrast (higher is better)")
    found = measured(runs[0] / "r0")
    titles = {"data": "data", "gaussian": "Gaussian prior", "prior": "learned prior"}
    for line, (kind, title) in zip(lines[start + 1 :], titles.items(), strict=False):
        assert line.startswith(f"{title} {found[kind]['value']:.4g}"[:-1])
        assert line.endswith(" grey")
        assert " ± 0.0" in line
    assert lines[start + 4] == "(power 1)"


def test_the_page_has_a_card_and_a_row(runs):
    page = (runs[0] / "r0" / "report.html").read_text()
    value = f"{measured(runs[0] / 'r0')['prior']['value']:.3g} ± 0.0"
    assert f"<b>{value}" in page
    assert "contrast ↑ (grey), learned prior" in page
    assert '<td class="">contrast ↑ (grey)</td>' in page
    assert "power 1" in page


def test_compare_has_columns_a_mean_over_seeds_a_page_and_exact_numbers(runs, tmp_path):
    folder, _ = runs
    sheet, page = tmp_path / "c.csv", tmp_path / "c.html"
    text = hebm("compare", folder / "r0", folder / "r1", "-o", sheet, "-o", page)
    assert "contrast ↑" in text
    assert "mean ± sd of r0" in text
    row = next(csv.DictReader(sheet.read_text().splitlines()))
    assert float(row["contrast.prior"]) == measured(folder / "r0")["prior"]["value"]
    assert float(row["contrast.prior.error"]) == measured(folder / "r0")["prior"]["error"]
    assert "contrast ↑ (grey)<br>learned prior" in page.read_text()


def test_compare_refuses_numbers_of_another_option(runs):
    folder, _ = runs
    text = hebm("compare", folder / "r0", folder / "squared", status=2)
    assert "power: r0 has 1.0, squared has 2.0 (contrast)" in text


# ---------------------------------------------------------------- a metric that fails

BROKEN = {"fails": True}


@recipe
class Fails(MetricRecipe):
    """Fails until it is repaired."""

    def compute(self, evaluation):
        """Measure `repaired`, unless the test has made it fail."""
        if BROKEN["fails"]:
            raise ZeroDivisionError("division by <zero>")
        return [Measurement("repaired", 1.0, "repaired")]


@pytest.fixture
def failing():
    registry.register("hebm_metrics", "contrast", Contrast)
    registry.register("hebm_metrics", "fails", Fails)
    BROKEN["fails"] = True
    yield
    for name in ("contrast", "fails"):
        registry.unregister("hebm_metrics", name)


def failures(run):
    return json.loads((run / "metrics.json").read_text())["failures"]


def test_a_metric_that_fails_loses_nothing_else_and_is_shown_with_the_command_that_tries_again(tmp_path, failing):
    config = write_config(tmp_path, tiny(evaluate={"samples": 64, "metrics": ["fails", "contrast"]}))
    printed = hebm("run", config, "--runs", tmp_path, status=1)
    run = tmp_path / "tiny"
    assert set(measured(run)) == {"data", "gaussian", "prior"}
    again, reason = f"hebm evaluate {run}", "ZeroDivisionError: division by <zero>"
    assert failures(run) == [{"metric": "fails", "reason": reason, "again": again}]
    assert f"fails failed: {reason}\n" in printed
    assert f"try again: {again} (traceback: {run / 'failures.log'})" in printed
    assert f"error: failed: fails; all other metrics were measured; try again with  {again}" in printed
    assert "Traceback" not in printed
    assert "raise ZeroDivisionError" in (run / "failures.log").read_text()
    page = (run / "report.html").read_text()
    assert f"<b>The metric fails failed.</b> {reason.replace('<', '&lt;').replace('>', '&gt;')}" in page
    assert f"<code>{again}</code>" in page

    before = (run / "metrics.json").read_text()
    printed = hebm("evaluate", run, "--set", 'evaluate.metrics=["fails"]', status=1)
    assert "every metric failed; the earlier measurements are kept" in printed
    assert (run / "metrics.json").read_text() == before

    BROKEN["fails"] = False
    assert "repaired" in hebm("evaluate", run)
    assert failures(run) == []
    assert not (run / "failures.log").exists()
    assert "failed" not in (run / "report.html").read_text()
