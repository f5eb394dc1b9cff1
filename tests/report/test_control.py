"""A learned prior that does not beat the control is named before everything else."""

import attrs
import pytest
from finished_run import BY_INCEPTION, CLASSIFIER, INCEPTION, finished_run, results

from hebm.evaluation.metrics_file import Results
from hebm.report.control import below_control
from hebm.report.page import contents
from hebm.report.text_table import metrics_table

SENTENCE = (
    "The learned prior does not beat the control: gap closed 20.0 %, against 29.0 % of the Gaussian prior at its best "
    "temperature, in which nothing is learned."
)


@pytest.mark.parametrize("gap", [0.2, 0.29], ids=["below", "the same"])
def test_a_prior_that_does_not_beat_the_control_is_said_so_first(tmp_path, gap):
    folder = finished_run(tmp_path, gap=gap, with_samples=False)
    (line,) = below_control(results(gap=gap))
    assert line == SENTENCE.replace("20.0", f"{100 * gap:.1f}")
    assert metrics_table("run", results(gap=gap), folder).splitlines()[1].strip() == line
    assert contents(folder)["below_control"] == [line]


def test_a_better_prior_is_not(tmp_path):
    assert below_control(results(gap=0.3)) == []
    assert (
        metrics_table("run", results(), finished_run(tmp_path, with_samples=False)).splitlines()[1].startswith("  gap")
    )


def test_without_a_gap_the_distance_decides_and_lower_is_better():
    assert below_control(results(without=("gap-closed",))) == []
    changed = [
        attrs.evolve(m, value=90.5) if m.kind == "prior" else m for m in results(without=("gap-closed",)).measurements
    ]
    assert "Fréchet distance 90.5, against 71.4" in below_control(Results(tuple(changed)))[0]


def test_each_extractor_counts_on_its_own():
    control = attrs.evolve(BY_INCEPTION[-1], kind="scaled-gaussian", value=0.6, summary="")
    both = results(more=(*BY_INCEPTION, control), extractors={**CLASSIFIER, **INCEPTION})
    (line,) = below_control(both)
    assert "in features of inception: gap closed 50.0 %, against 60.0 %" in line


def test_nothing_is_said_of_a_run_whose_prior_is_the_gaussian_one():
    gaussian = next(m.value for m in results().measurements if m.name == "fd" and m.kind == "gaussian")
    same = [
        attrs.evolve(m, value=gaussian) if m.key[:2] == ("fd", "prior") else m for m in results(gap=0.0).measurements
    ]
    assert below_control(Results(tuple(same))) == []
