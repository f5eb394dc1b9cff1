import sys
from pathlib import Path

from hebm.evaluation.metric import SHARE, Measurement
from hebm.evaluation.metrics_file import Results
from hebm.report.text_table import metrics_table
from hebm.store.run_folder import RunFolder

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from finished_run import BY_INCEPTION, CLASSIFIER, INCEPTION, results

BOUND = {"unit": "nats per image", "conditions": {"k": 100, "targets": "binarised"}}


def printed(tmp_path, found):
    lines = metrics_table("tiny", found, RunFolder(tmp_path / "tiny")).splitlines()
    return [" ".join(line.split()) for line in lines]


def test_results_are_grouped_those_with_a_summary_first_and_conditions_last(tmp_path):
    lines = printed(tmp_path, results(without=("temperature", "nll")))
    assert lines == [
        "tiny",
        "gap closed (higher is better)",
        "learned prior 77.9 %",
        "Gaussian prior at its best temperature 29.0 %",
        "Fréchet distance (lower is better)",
        "Gaussian prior 82.96",
        "learned prior 51.93",
        "reconstruction 43.13",
        "Gaussian prior at its best temperature 71.40",
        "seconds 3.500",
        "seconds training 2.500",
        "(n 2000, reference 1498 train images, seed 0, extractor classifier)",
        f"report: {tmp_path / 'tiny' / 'report.html'}",
    ]


def test_numbers_of_several_extractors_stand_next_to_each_other_by_name(tmp_path):
    lines = printed(tmp_path, results(more=BY_INCEPTION, extractors={**CLASSIFIER, **INCEPTION}))
    assert "learned prior classifier: 77.9 %, inception: 50.0 %" in lines
    assert "Gaussian prior classifier: 82.96, inception: 4.200" in lines
    assert "reconstruction classifier: 43.13" in lines
    assert "note: 2000 images are few" in lines


def test_every_measurement_is_printed_with_error_unit_parts_conditions_and_note(tmp_path):
    found = Results(
        (
            Measurement("elbo", -101.5, "ELBO", 0.25, better="higher", **BOUND),
            *(Measurement("kl", i, "KL", part=f"layer {i}", detail=True, **BOUND) for i in (1, 2)),
            Measurement("nll", 99.0, "−log p(x)", note="too low", unit="nats per image"),
            Measurement("agreement", None, "agreement", unit=SHARE, kind="prior", note="no labels"),
        )
    )
    assert printed(tmp_path, found)[1:-2] == [
        "ELBO (higher is better) -101.5 ± 0.25 nats per image",
        "KL layer 1: 1, layer 2: 2 nats per image",
        "(k 100, targets binarised)",
        "−log p(x) 99 nats per image",
        "note: too low",
        "agreement",
        "learned prior undefined",
        "note: no labels",
    ]


def test_control_characters_do_not_reach_the_terminal(tmp_path):
    lines = printed(tmp_path, Results((Measurement("a", 1.0, "\x1b[31mred", part="\x07"),)))
    assert lines[1] == r"\x1b[31mred \x07: 1"
