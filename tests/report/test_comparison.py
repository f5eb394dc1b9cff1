import statistics

import attrs
import pytest
from finished_run import BY_INCEPTION, CLASSIFIER, INCEPTION, finished_run, measurements

from hebm.errors import CheckpointError, ConfigError, HebmError
from hebm.evaluation.metric import Measurement
from hebm.report.comparison import compared, differing_conditions, exact_table, require_comparable
from hebm.report.comparison_table import table
from hebm.store import sums
from hebm.store.run_folder import RunFolder

NLL = next(found for found in measurements() if found.name == "nll")
K50, BITS = attrs.evolve(NLL, conditions={"k": 50}), attrs.evolve(NLL, unit="bits")


def run(path, **changes):
    return compared(finished_run(path, with_samples=False, **changes))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"extractors": {"classifier": {"name": "classifier", "sha256": "cd" * 32}}}, "extractor"),
        ({"extractors": {"classifier": {"name": "inception", "sha256": "ab" * 32}}}, "extractor"),
        ({"n": 5000}, "n:"),
        ({"n_reference": 1000}, "n_reference"),
        ({"split": "test"}, "split"),
        ({"decode": "sample"}, "decode"),
        ({"range": "[0, 1]"}, "range"),
        ({"data": "beef"}, "data fingerprint"),
        ({"more": (K50,), "without": ("nll",)}, "k:"),
        ({"more": (BITS,), "without": ("nll",)}, "unit:"),
    ],
)
def test_numbers_measured_differently_are_refused_and_the_difference_named(tmp_path, changes, field):
    runs = [run(tmp_path, name="a"), run(tmp_path, name="b", **changes)]
    with pytest.raises(ConfigError, match=f"(?s){field}.*a has .*b has .*--anyway"):
        require_comparable(runs)


def test_runs_measured_alike_may_be_compared_whatever_their_prior(tmp_path):
    accuracy = {"classifier": {"name": "classifier", "sha256": "ab" * 32, "accuracy": 0.5}}
    other = run(tmp_path, name="b", prior="gaussian", seed=4, extractors=accuracy)
    require_comparable([run(tmp_path, name="a"), other])


def test_conditions_count_only_for_numbers_that_depend_on_them_and_that_several_runs_have(tmp_path):
    first, few = run(tmp_path, name="a"), {"n": 50, "extractors": {}, "split": "test"}
    require_comparable([first, run(tmp_path, name="b", without=("fd", "gap-closed", "temperature"), **few)])
    without_number = attrs.evolve(NLL, value=None, conditions={"k": 50})
    require_comparable([first, run(tmp_path, name="c", more=(without_number,), without=("nll",))])


def test_a_difference_says_which_numbers_it_is_about(tmp_path):
    (line,) = differing_conditions([run(tmp_path, name="a"), run(tmp_path, name="b", n=5)])
    assert line == "n: a has 2000, b has 5 (gap closed, Fréchet distance, temperature)"


def test_draws_measured_after_a_transition_say_which(tmp_path):
    whole, stopped = run(tmp_path, name="a"), run(tmp_path, name="b", after="stage 1")
    assert stopped.facts()[3] == f"{whole.facts()[3]}, after stage 1"


def test_runs_that_differ_in_their_seed_alone_get_mean_and_standard_deviation(tmp_path):
    gaps = [0.7, 0.8, 0.75]
    runs = [run(tmp_path, name=f"r{seed}", seed=seed, gap=gap) for seed, gap in enumerate(gaps)]
    found = table([*runs, run(tmp_path, name="other", prior="gaussian", gap=0.6)])
    assert [row[0] for row in found.rows] == ["r0", "r1", "r2", "other", "mean ± sd of r0 …"]
    cells = dict(zip(found.header, found.rows[-1], strict=True))
    assert cells["seed"] == "3 seeds"
    assert cells["gap closed ↑\nlearned prior"] == f"75.0 ± {100 * statistics.stdev(gaps):.1f} %"


def test_runs_on_backbones_of_their_seeds_get_one_mean_and_those_on_another_backbone_do_not(tmp_path):
    def on(origin, seed):
        folder = finished_run(tmp_path, name=f"on-{origin}", seed=seed, with_samples=False)
        text = folder.config.read_text() + f'backbone_from = "{tmp_path / origin}"\n'
        sums.write(folder.path, {sums.CONFIG: text.encode()})
        return compared(folder)

    backbones = [run(tmp_path, name=f"b{seed}", seed=seed, prior="gaussian") for seed in range(2)]
    finished_run(tmp_path, name="other", data="f00d", with_samples=False)
    other = RunFolder(tmp_path / "other")
    sums.write(other.path, {sums.CONFIG: other.config.read_text().replace("two-layer", "hvae").encode()})
    rows = table([*backbones, on("b0", 0), on("b1", 1), on("other", 2)]).rows
    assert [row[0] for row in rows if "mean" in row[0]] == ["mean ± sd of b0 …", "mean ± sd of on-b0 …"]
    assert [row[5] for row in rows if "mean" in row[0]] == ["2 seeds", "2 seeds"]


def test_a_figure_that_one_seed_lacks_has_no_mean(tmp_path):
    runs = [run(tmp_path, name="a"), run(tmp_path, name="b", seed=1, gap=None)]
    cells = dict(zip(table(runs).header, table(runs).rows[-1], strict=True))
    assert cells["gap closed ↑\nlearned prior"] == "–"


def test_columns_are_those_that_some_run_has_with_unit_direction_and_kind(tmp_path):
    more = (Measurement("elbo", -3.2, "ELBO", unit="nats", better="higher"), Measurement("none", None, "none"))
    header = table([run(tmp_path, name="a"), run(tmp_path, name="b", more=more)]).header
    assert {"ELBO ↑ (nats)", "Fréchet distance ↓\nlearned prior", "seconds"} <= set(header)
    assert not {"none", "temperature", "chain steps"} & {head.partition("\n")[0] for head in header}


def test_a_number_stands_with_its_standard_error(tmp_path):
    found = table([run(tmp_path)])
    assert dict(zip(found.header, found.rows[0], strict=True))["−log p(x) ↓ (nats per image)"] == "81.2 ± 0.32"


def test_runs_measured_in_different_extractors_are_compared_in_those_that_they_share(tmp_path):
    both = {"more": BY_INCEPTION, "extractors": {**CLASSIFIER, **INCEPTION}}
    second = {"more": BY_INCEPTION, "without": ("fd", "gap-closed"), "extractors": INCEPTION}
    runs = [run(tmp_path, name="a"), run(tmp_path, name="b", **both), run(tmp_path, name="c", **second)]
    require_comparable(runs)
    found = table(runs)
    columns = {head: [row[i] for row in found.rows[:3]] for i, head in enumerate(found.header)}
    assert columns["Fréchet distance ↓\nlearned prior, classifier"] == ["51.9", "51.9", "–"]
    assert columns["Fréchet distance ↓\nlearned prior, inception"] == ["–", "2.50", "2.50"]


def test_for_programs_numbers_are_exact_and_complete_and_rows_are_runs(tmp_path):
    runs = [run(tmp_path, name=f"r{seed}", seed=seed) for seed in range(2)]
    found = exact_table(runs)
    assert len(found.rows) == 2
    cells = dict(zip(found.header, found.rows[0], strict=True))
    assert (cells["gap-closed.prior.classifier"], cells["gap-closed.scaled-gaussian.classifier"]) == ("0.77916", "0.29")
    assert (cells["nll"], cells["nll.error"], cells["temperature.scaled-gaussian"]) == ("81.23", "0.32", "0.9")


def test_a_run_that_is_not_evaluated_and_a_folder_without_a_run_are_refused(tmp_path):
    folder = finished_run(tmp_path, with_samples=False)
    folder.metrics.unlink()
    with pytest.raises(HebmError, match="not evaluated yet"):
        compared(folder)
    with pytest.raises(CheckpointError, match="not a run folder"):
        compared(RunFolder(tmp_path / "missing"))
