import re
from collections import Counter
from pathlib import Path

import pytest
from finished_run import BY_INCEPTION, CLASSIFIER, INCEPTION, results

import hebm.cli
import hebm.report
from hebm import registry
from hebm.evaluation.kinds import KINDS
from hebm.evaluation.metric import Measurement
from hebm.evaluation.metrics_file import Results
from hebm.report.metric_table import (
    by_kind,
    cards,
    conditions,
    conditions_in_short,
    groups,
    notes,
    notes_by_kind,
    others,
    summaries,
)
from hebm.report.numbers import measured

LAYERS = tuple(Measurement("kl", i, "KL by layer", unit="nats", part=f"layer {i}", detail=True) for i in (1, 2))
UNDEFINED = Measurement("auroc", None, "AUROC", kind="prior", note="there is only one class")


def test_what_has_a_summary_comes_first_and_its_words_lead_the_page():
    assert [group.first.name for group in groups(results())] == ["gap-closed", "fd", "temperature", "nll"]
    assert summaries(results()) == ["The learned prior closes most of the gap."]


def test_a_card_has_the_learned_priors_number_and_those_of_the_other_kinds():
    gap, fd = cards(results())
    assert (gap.number, gap.title, gap.learned) == ("77.9 %", "gap closed ↑", True)
    assert gap.others == (("Gaussian prior at its best temperature", "29.0 %"),)
    assert fd.number == "51.9"
    assert dict(fd.others)["Gaussian prior"] == "83.0"


def test_the_table_has_a_row_per_metric_and_a_column_per_kind_in_the_order_of_kinds():
    table = by_kind(results(), detail=False)
    of_gap, of_fd = table.rows
    titles = [KINDS[kind].title for kind in ("reconstruction", "gaussian", "scaled-gaussian", "prior")]
    assert table.header == ("", *titles)
    assert of_gap == ("gap closed ↑", "–", "–", "29.0 %", "77.9 %")
    assert of_fd == ("Fréchet distance ↓", "43.1", "83.0", "71.4", "51.9")


def test_what_is_about_no_images_has_a_row_with_unit_error_direction_and_conditions():
    assert others(results(), detail=False).rows == (("−log p(x) ↓ (nats per image)", "81.2 ± 0.32", "k 100"),)


def test_no_measurement_is_lost_between_the_four_tables():
    found = results(more=(*LAYERS, UNDEFINED, Measurement("fd", 1.0, "Fréchet distance", part="of all")))
    tables = [make(found, detail) for make in (by_kind, others) for detail in (False, True)]
    cells = Counter(cell for table in tables for row in table.rows for cell in row[1:])
    assert not Counter(measured(m) for m in found.measurements) - cells


def test_parts_have_rows_of_their_own():
    assert [row[:2] for row in others(results(more=LAYERS), detail=True).rows] == [
        ("KL by layer (nats), layer 1", "1"),
        ("KL by layer (nats), layer 2", "2"),
    ]


def test_a_missing_number_is_called_undefined_with_its_reason():
    found = results(more=(UNDEFINED,))
    assert by_kind(found, detail=False).rows[-1][-1] == "undefined"
    assert notes(found) == [("AUROC, learned prior", "there is only one class")]
    assert "AUROC" not in [card.title for card in cards(found)]


def test_conditions_that_several_rows_share_are_shown_once():
    pair = [Measurement(name, 1.0, name, conditions={"k": 3}) for name in ("a", "b")]
    table = others(Results((*pair, Measurement("c", 1.0, "c", conditions={"k": 4}))), detail=False)
    assert table.spans() == [2, 0, 1]


def test_images_of_a_kind_are_shown_with_the_result_that_covers_most_kinds():
    assert notes_by_kind(results())["prior"] == "Fréchet distance 51.9"
    assert notes_by_kind(results(without=("fd",)))["prior"] == "gap closed 77.9 %"
    assert notes_by_kind(Results()) == {}


def test_extractor_n_split_and_seed_stand_next_to_the_numbers():
    for text in (conditions(results()), conditions_in_short(results())):
        for part in ("2,000", "1,498", "train", "classifier", "seed 0"):
            assert part in text
    assert "sha256 abababababab" in conditions(results())


def test_an_extractor_is_named_with_each_row_only_where_there_are_several():
    assert "measured with" not in by_kind(results(), detail=False).header
    two = by_kind(results(extractors={**CLASSIFIER, "inception": {"name": "inception"}}), detail=False)
    assert two.rows[0][-1] == "extractor classifier"


def both():
    return results(more=BY_INCEPTION, extractors={**CLASSIFIER, **INCEPTION})


def test_numbers_of_several_extractors_have_rows_and_cards_of_their_own_that_name_it():
    table = by_kind(both(), detail=False)
    named = [(row[0], row[-2], row[-1]) for row in table.rows]
    assert named == [
        ("gap closed ↑", "77.9 %", "extractor classifier"),
        ("gap closed ↑", "50.0 %", "extractor inception"),
        ("Fréchet distance ↓", "51.9", "extractor classifier"),
        ("Fréchet distance ↓", "2.50", "extractor inception"),
    ]
    shown = {card.title: (card.number, dict(card.others).get("Gaussian prior")) for card in cards(both())}
    assert shown["Fréchet distance ↓, classifier"] == ("51.9", "83.0")
    assert shown["Fréchet distance ↓, inception"] == ("2.50", "4.20")
    assert len(shown) == 4


def test_images_are_shown_with_the_result_of_the_first_extractor():
    assert notes_by_kind(both())["prior"] == "Fréchet distance 51.9"


def test_kinds_of_images_with_the_same_note_share_it():
    assert notes(both()) == [("Fréchet distance", "2000 images are few")]


@pytest.mark.parametrize("package", [hebm.report, hebm.cli])
def test_what_shows_measurements_names_no_metric(package):
    files = [path for path in Path(package.__path__[0]).rglob("*") if path.suffix in (".py", ".jinja")]
    names = "|".join(map(re.escape, registry.names("hebm_metrics")))
    assert files
    assert not {path.name: found for path in files if (found := re.findall(f"[\"']({names})[\"'.]", path.read_text()))}
