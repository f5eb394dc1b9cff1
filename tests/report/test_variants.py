"""Variants, their order and their paired differences from a baseline."""

import attrs
import pytest
from finished_run import results
from scipy import stats

from hebm.errors import ConfigError
from hebm.evaluation.metrics_file import Results
from hebm.report.comparison import Run, columns
from hebm.report.comparison_table import table
from hebm.report.variants import baseline_called, difference, main_measure, ordered, variants
from hebm.store.run_folder import RunFolder


def run(tmp_path, name, gap, seed=0, experiment="", backbone="", error=None, control=0.29):
    found = results(gap=gap, control=control, seed=seed)
    measurements = tuple(attrs.evolve(m, error=error) if m.name == "gap-closed" else m for m in found.measurements)
    found = Results(measurements, found.conditions)
    config = {"seed": seed, "prior": {"type": name}}
    return Run(RunFolder(tmp_path / name), config, found, "", experiment=experiment or name, backbone=backbone)


def family(tmp_path, name, gaps, backbone="backbone-{}", first=0):
    return [
        run(tmp_path, f"{name}-{seed}", gap, seed, name, backbone.format(seed)) for seed, gap in enumerate(gaps, first)
    ]


def of_gap(runs):
    return main_measure(columns(runs))


def test_a_variant_is_named_by_what_its_runs_names_begin_with(tmp_path):
    found = variants([*family(tmp_path, "mnist-joint", (0.1, 0.2)), run(tmp_path, "alone-7", 0.3)])
    assert [variant.name for variant in found] == ["mnist-joint", "alone-7"]
    for name in ("mnist-joint", "joint", "mnist-joint-1"):
        assert baseline_called(name, found) is found[0]
    with pytest.raises(ConfigError, match=r"'score' is not a name.*choose one of mnist-joint, alone-7"):
        baseline_called("score", found)


def test_rows_are_sorted_by_the_mean_of_the_gap_closed_and_the_best_variant_is_marked(tmp_path):
    runs = [run(tmp_path, "weak", 0.3), *family(tmp_path, "joint", (0.5, 0.9)), run(tmp_path, "good", 0.6)]
    found = table(runs)
    assert [row[0] for row in found.rows] == ["joint-0", "joint-1", "good", "weak", "mean ± sd of joint-0 …"]
    gap = found.header.index("gap closed ↑\nlearned prior")
    assert [row for row, column in found.best if column == gap] == [4]
    assert found.marked()[4][gap] == "70.0 ± 28.3 %*"


def test_a_run_without_the_number_comes_last(tmp_path):
    runs = [run(tmp_path, "none", None), run(tmp_path, "some", -0.5)]
    assert [variant.name for variant in ordered(variants(runs), columns(runs))] == ["some", "none"]


def test_priors_below_the_control_are_flagged_and_named_before_the_table(tmp_path):
    runs = [*family(tmp_path, "joint", (0.2, 0.5)), *family(tmp_path, "poor", (0.1, 0.2))]
    found = table(runs)
    assert {found.rows[i][0] for i in found.below} == {"joint-0", "poor-0", "poor-1", "mean ± sd of poor-0 …"}
    (line,) = found.first_lines
    assert line.startswith("poor: The learned prior does not beat the control: gap closed 15.0 %, against 29.0 %")


def test_runs_on_one_backbone_are_paired_and_the_interval_is_students(tmp_path):
    base, other = family(tmp_path, "a", (0.5, 0.6, 0.7)), family(tmp_path, "b", (0.56, 0.68, 0.8))[::-1]
    first, second = variants([*base, *other])
    found = difference(second, first, of_gap(base))
    assert (found.mean, found.pairs) == (pytest.approx(0.08), 3)
    assert found.half == pytest.approx(stats.t.ppf(0.975, 2) * 0.02 / 3**0.5)


def test_without_a_common_backbone_seeds_are_paired_and_others_are_not(tmp_path):
    base = family(tmp_path, "a", (0.5, 0.6), backbone="")
    first, second = variants([*base, *family(tmp_path, "b", (0.7, 0.9), backbone="", first=1)])
    found = difference(second, first, of_gap(base))
    assert (found.mean, found.half, found.pairs) == (pytest.approx(0.1), None, 1)
    first, second = variants([*base, *family(tmp_path, "c", (0.7,), first=5)])
    assert difference(second, first, of_gap(base)) is None


def test_one_pair_has_an_interval_from_both_standard_errors(tmp_path):
    runs = [run(tmp_path, "a", 0.5, error=0.03), run(tmp_path, "b", 0.7, error=0.04)]
    first, second = variants(runs)
    assert difference(second, first, of_gap(runs)).half == pytest.approx(1.96 * 0.05)
    assert "+20.0 [+10.2, +29.8] points" in table(runs, baseline="a").differences.rows[0]
