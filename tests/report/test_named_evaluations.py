"""Evaluations with a name, next to the one of metrics.json."""

from finished_run import finished_run, named_evaluation, results

from hebm.report.named_evaluations import side_by_side
from hebm.report.page import contents


def test_conditions_that_differ_come_first_and_each_measurement_has_a_row():
    found = side_by_side(results(), {"k100": results(gap=0.9, chain_steps=100, without=("nll",))})
    assert found.header == ("", "metrics.json", "k100")
    assert found.rows[0] == ("chain steps", "–", "100")
    rows = {row[0]: row[1:] for row in found.rows}
    assert rows["gap closed ↑, learned prior"] == ("77.9 %", "90.0 %")
    assert rows["−log p(x) ↓ (nats per image)"] == ("81.2 ± 0.32", "–")
    assert not any(name.startswith("temperature") for name in rows)


def test_the_page_has_them_only_where_there_are_some(tmp_path):
    folder = finished_run(tmp_path, with_samples=False)
    assert contents(folder)["named"].rows == ()
    named_evaluation(folder, "k100")
    assert contents(folder)["named"].header[-1] == "k100"
