import json

from hebm.cli.table import metrics_table
from hebm.store.run_folder import RunFolder

CONDITIONS = {"n": 10000, "n_reference": 500, "split": "train", "seed": 3, "extractor": {"name": "classifier"}}


def printed(tmp_path, **metrics):
    folder = RunFolder(tmp_path / "tiny")
    folder.path.mkdir()
    folder.metrics.write_text(json.dumps({**metrics, **CONDITIONS}))
    return metrics_table(folder).splitlines()


def test_shares_come_first_and_conditions_last(tmp_path):
    lines = printed(tmp_path, fd={"prior": 12.34567}, gap_closed=0.5, seconds=7.0)
    assert lines[0] == "tiny"
    assert lines[1].split() == ["gap", "closed", "50.0%"]
    assert lines[2].split() == ["FD", "prior", "12.35"]
    assert lines[3].split() == ["seconds", "7"]
    assert lines[4].strip() == "(n 10000, reference 500 train images, seed 3, extractor classifier)"
    assert lines[5].strip().startswith("report: ")


def test_every_figure_of_every_metric_is_printed_with_what_it_is_a_figure_of(tmp_path):
    likelihood = {
        "elbo": -101.5,
        "kl_per_layer": [1.5, 2.25],
        "nll_iw": {"nll": 99.0, "k": 100, "estimator": "importance-weighted"},
        "targets": "binarised",
    }
    lines = printed(tmp_path, likelihood=likelihood, kid={"prior": {"mean": 0.5, "std": 0.1}}, none={"a": None})
    text = [" ".join(line.split()) for line in lines]
    assert text[1:9] == [
        "likelihood elbo -101.5",
        "likelihood kl per layer 1.50, 2.25",
        "likelihood nll iw nll 99",
        "likelihood nll iw k 100",
        "likelihood nll iw estimator importance-weighted",
        "likelihood targets binarised",
        "KID prior mean 0.5",
        "KID prior std 0.1",
    ]
    assert "none" not in " ".join(text[9:10])
