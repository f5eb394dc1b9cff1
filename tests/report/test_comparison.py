import statistics

import pytest
from finished_run import finished_run

from hebm.errors import CheckpointError, ConfigError, HebmError
from hebm.report.comparison import read_run, require_comparable, table
from hebm.store.run_folder import RunFolder


def run(path, **changes):
    return read_run(finished_run(path, with_samples=False, **changes))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"extractor": {"name": "classifier", "sha256": "cd" * 32}}, "extractor"),
        ({"extractor": {"name": "inception", "sha256": "ab" * 32}}, "extractor"),
        ({"n": 5000}, "n:"),
        ({"n_reference": 1000}, "n_reference"),
        ({"split": "test"}, "split"),
        ({"decode": "sample"}, "decode"),
        ({"range": "[0, 1]"}, "range"),
        ({"data": "beef"}, "data fingerprint"),
    ],
)
def test_figures_measured_differently_are_refused_and_the_difference_named(tmp_path, changes, field):
    runs = [run(tmp_path, name="a"), run(tmp_path, name="b", **changes)]
    with pytest.raises(ConfigError, match=f"(?s){field}.*a has .*b has .*--anyway"):
        require_comparable(runs)


def test_runs_measured_alike_may_be_compared_whatever_their_prior(tmp_path):
    accuracy = {"name": "classifier", "sha256": "ab" * 32, "accuracy": 0.5}
    require_comparable([run(tmp_path, name="a"), run(tmp_path, name="b", prior="gaussian", seed=4, extractor=accuracy)])


def test_runs_that_differ_in_their_seed_alone_get_mean_and_standard_deviation(tmp_path):
    gaps = [0.7, 0.8, 0.75]
    runs = [run(tmp_path, name=f"r{seed}", seed=seed, gap_closed=gap) for seed, gap in enumerate(gaps)]
    found = table([*runs, run(tmp_path, name="other", prior="gaussian")])
    assert [row[0] for row in found.rows] == ["r0", "r1", "r2", "other", "mean ± sd of r0 …"]
    cells = dict(zip(found.header, found.rows[-1], strict=True))
    assert cells["seed"] == "3 seeds"
    assert cells["gap closed"] == f"75.0 ± {100 * statistics.stdev(gaps):.1f} %"


def test_a_figure_that_one_seed_lacks_has_no_mean(tmp_path):
    runs = [run(tmp_path, name="a"), run(tmp_path, name="b", seed=1, gap_closed=None)]
    cells = dict(zip(table(runs).header, table(runs).rows[-1], strict=True))
    assert cells["gap closed"] == "–"


def test_columns_are_those_that_some_run_has(tmp_path):
    header = table([run(tmp_path, name="a"), run(tmp_path, name="b", likelihood={"bits_per_dim": 3.21})]).header
    assert {"KID prior", "bits/dim", "FD prior", "control"} <= set(header)
    assert "FID prior" not in header


def test_for_programs_numbers_are_exact_and_rows_are_runs(tmp_path):
    runs = [run(tmp_path, name=f"r{seed}", seed=seed) for seed in range(2)]
    found = table(runs, exact=True)
    assert len(found.rows) == 2
    assert dict(zip(found.header, found.rows[0], strict=True))["gap closed"] == "0.77916"


def test_a_run_that_is_not_evaluated_and_a_folder_that_is_none_are_refused(tmp_path):
    folder = finished_run(tmp_path, with_samples=False)
    folder.metrics.unlink()
    with pytest.raises(HebmError, match="not evaluated yet"):
        read_run(folder)
    with pytest.raises(CheckpointError, match="not a run folder"):
        read_run(RunFolder(tmp_path / "missing"))
