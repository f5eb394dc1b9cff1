from finished_run import metrics

from hebm.report.metric_table import by_kind, conditions, conditions_in_short, in_words, others


def test_the_result_in_words_says_gap_control_and_distances():
    text = " ".join(in_words(metrics()))
    for figure in ("closes 77.9 %", "51.9", "83.0", "43.1", "0.900", "closes 29.0 %", "adds 48.9 points"):
        assert figure in text


def test_a_prior_that_is_worse_than_the_control_is_said_to_be():
    assert "stays 21.0 points below it" in in_words(metrics(gap_closed=0.08))[1]
    assert "widens it: -8.0 %" in in_words(metrics(gap_closed=-0.08))[0]


def test_an_undefined_gap_is_explained():
    (sentence,) = in_words(metrics(gap_closed=None))
    assert "not defined" in sentence


def test_a_gap_that_was_not_measured_is_said():
    assert in_words({"n": 10}) == ["The gap closed was not measured."]


def test_the_table_has_a_row_per_metric_and_a_column_per_kind():
    table = by_kind(metrics())
    assert table.header == ("", "Gaussian prior", "Gaussian prior, best temperature", "learned prior", "reconstruction")
    assert table.rows[0] == ("Fréchet distance", "83.0", "71.4", "51.9", "43.1")
    assert table.rows[1] == ("KID", "–", "–", "0.0123 ± 0.000400", "–")


def test_other_results_are_listed_and_none_is_lost():
    table = others(metrics(likelihood={"elbo": -31.25, "unit": "nats per image"}, auroc=0.91))
    rows = dict(table.rows)
    assert rows["Fréchet distance · scaled gaussian temperature"] == "0.900"
    assert rows["KID · subsets"] == "100"
    assert rows["likelihood · elbo"] == "-31.2"
    assert rows["auroc"] == "0.910"
    assert not any(row.startswith(("gap", "versions", "seconds", "extractor")) for row in rows)


def test_extractor_n_split_and_seed_stand_beside_the_figures():
    for text in (conditions(metrics()), conditions_in_short(metrics())):
        for part in ("2,000", "1,498", "train", "classifier", "seed 0"):
            assert part in text
    assert "sha256 abababababab" in conditions(metrics())
