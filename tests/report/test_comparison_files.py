import csv
import io
import json
import re

import attrs
import pytest
from finished_run import BY_INCEPTION, CLASSIFIER, INCEPTION, finished_run
from matplotlib.figure import Figure
from PIL import Image

from hebm.analysis.compared_plot import Curve, Plot
from hebm.analysis.section import Section
from hebm.errors import ConfigError, HebmError
from hebm.evaluation.metric import Measurement
from hebm.evaluation.metrics_file import Results
from hebm.report import comparison_files
from hebm.report.comparison import compared, exact_table, require_comparable
from hebm.report.comparison_files import write_comparison
from hebm.report.comparison_picture import picture
from hebm.report.comparison_table import ComparedTable, table
from hebm.report.comparison_text import as_csv, as_json, as_markdown, as_text, tex
from hebm.store.run_folder import RunFolder


@pytest.fixture
def runs(tmp_path):
    return [
        compared(finished_run(tmp_path, name=name, prior=prior)) for name, prior in (("a", "joint"), ("b", "gaussian"))
    ]


@pytest.mark.parametrize("width", [40, 80])
def test_columns_that_exceed_the_width_follow_in_blocks_that_repeat_the_run(runs, width):
    whole, narrow = as_text(table(runs)), as_text(table(runs), width)
    *lines, legend = narrow.splitlines()
    assert legend.startswith("* the best")
    assert max(map(len, lines)) <= width
    blocks = [block.splitlines() for block in "\n".join(lines).split("\n\n")]
    assert len(blocks) == {40: 6, 80: 3}[width]
    assert all([line.split()[0] for line in block[-3:]] == ["run", "a", "b"] for block in blocks)
    assert set(whole.split()) == set(narrow.split())


def test_text_columns_are_aligned(runs):
    *head, first, second, legend = as_text(table(runs)).splitlines()
    end = head[-1].index("learned prior") + len("learned prior")
    assert [line[:end].endswith("77.9 %*") for line in (first, second)] == [True, True]
    assert legend.startswith("* the best of its column")
    assert head[-2][:end].endswith("gap closed ↑")


def test_control_characters_do_not_reach_the_terminal(runs):
    evil = ComparedTable(("run",), (("\x1b[31mred",),))
    assert as_text(evil).splitlines()[-1] == r"\x1b[31mred"


@pytest.mark.parametrize("ending", [".html", ".png", ".csv", ".json", ".md"])
def test_a_run_whose_folder_has_any_name_is_compared(tmp_path, ending):
    """Mathematics of matplotlib, marks that turn text, a byte that is not UTF-8."""
    name = "_$\\frac$ <b>\u202e\x1b\udcff"
    finished_run(tmp_path, name="a")
    runs = [compared(finished_run(tmp_path, name="b")), compared(RunFolder((tmp_path / "a").rename(tmp_path / name)))]
    write_comparison(runs, tmp_path / f"c{ending}")
    content = (tmp_path / f"c{ending}").read_bytes()
    if ending != ".png":
        assert rb"\udcff" in content
    if ending in (".html", ".md"):
        assert b"\x1b" not in content
        assert "\u202e".encode() not in content
    assert ending != ".html" or b"<b>\\u" not in content


def test_latex_has_text_from_outside_spelled_out():
    assert tex("a_\x1b\u202e\n") == r"a\_\textbackslash{}x1b\textbackslash{}u202e\textbackslash{}n"


def test_csv_is_read_back_exactly(runs):
    rows = list(csv.DictReader(io.StringIO(as_csv(exact_table(runs)))))
    assert [(row["run"], row["prior"], float(row["fd.prior.classifier"])) for row in rows] == [
        ("a", "joint", 51.93),
        ("b", "gaussian", 51.93),
    ]


def test_json_has_every_measurement_with_its_conditions(runs):
    first, second = json.loads(as_json(runs))
    assert (first["run"], second["prior"]) == ("a", "gaussian")
    assert first["measurements"] == [found.to_json() for found in runs[0].results.measurements]
    assert first["conditions"]["n"] == 2000


def test_markdown_has_a_row_per_run(runs):
    assert as_markdown(table(runs)).count("\n") == 4


def test_the_page_asks_for_no_other_file(runs, tmp_path):
    write_comparison(runs, tmp_path / "out" / "compare.html")
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "2 runs compared" in page
    assert all(source.startswith("data:image/png") for source in re.findall(r'src="([^"]*)', page))


def test_the_picture_is_made_even_where_samples_or_results_are_missing(runs, tmp_path):
    (runs[1].folder.samples / "prior.png").unlink()
    none = attrs.evolve(runs[1], results=Results())
    for i, pair in enumerate(([runs[0], none], [none, none])):
        write_comparison(pair, tmp_path / f"compare{i}.png")
    write_comparison(runs, tmp_path / "compare.png")
    with Image.open(tmp_path / "compare.png") as image:
        assert image.width > 600


def test_each_extractor_has_bars_of_its_own(tmp_path):
    both = {"more": BY_INCEPTION, "extractors": {**CLASSIFIER, **INCEPTION}}
    drawn = picture([compared(finished_run(tmp_path, name=name, **both)) for name in "ab"])
    titles = {axes.get_title(loc="left") for axes in drawn.axes}
    assert {"Fréchet distance ↓\nclassifier", "Fréchet distance ↓\ninception"} <= titles


def test_a_title_with_dollars_is_not_read_as_mathematics(tmp_path):
    cost = Measurement("cost", 1.0, r"cost in $ \frac{ $", kind="prior")
    write_comparison([compared(finished_run(tmp_path, name="$a_{$", more=(cost,)))], tmp_path / "compare.png")
    assert (tmp_path / "compare.png").stat().st_size > 1000


def test_a_damaged_grid_is_named(runs, tmp_path):
    (runs[0].folder.samples / "prior.png").write_bytes(b"no picture")
    with pytest.raises(HebmError, match=r"prior\.png is damaged"):
        write_comparison(runs, tmp_path / "compare.png")


def test_another_ending_is_refused_with_those_allowed(runs, tmp_path):
    with pytest.raises(ConfigError, match=r"\.html, \.png, \.csv, \.json, \.md, \.tex"):
        write_comparison(runs, tmp_path / "compare.pdf")
    assert not (tmp_path / "compare.pdf").exists()


def analysed(folder, x, **conditions):
    """The run of this folder after an analysis whose plot has its points at x."""
    curve = Curve("P = 8", tuple(x), (3.0, None, 1.0), (0.1, None, 0.1), ("0", "5", "10"))
    plot = Plot("distance against $time", "ms", (curve,), {"Gaussian": 5.0}, {"n": "256", **conditions}, log=True)
    (folder.analyses / "timing").mkdir(parents=True)
    Section("Time", plots=(plot,)).write(folder.analyses / "timing", {})
    return compared(folder)


def test_runs_with_a_plot_of_one_title_share_a_frame_below_the_picture(runs, tmp_path):
    shared = [analysed(run.folder, x) for run, x in zip(runs, ([1.0, 5.0, 9.0], [0.1, 2.0, 3.0]), strict=True)]
    figures = [picture(made) for made in (runs, shared, [shared[0], runs[1]])]
    frames = [[axes for axes in figure.get_axes() if "time" in axes.get_title(loc="left")] for figure in figures]
    assert [len(found) for found in frames] == [0, 1, 1]
    (axes,) = frames[1]
    assert axes.get_xscale() == "log"
    assert axes.get_legend_handles_labels()[1] == ["a, P = 8", "b, P = 8"]
    assert json.loads(as_json(shared))[1]["plots"][0]["curves"][0]["x"] == [0.1, 2.0, 3.0]
    write_comparison(shared, tmp_path / "compare.png")
    with Image.open(tmp_path / "compare.png") as after:
        assert after.height > 600


def test_plots_made_under_different_conditions_are_refused(runs):
    shared = [analysed(run.folder, [1.0, 2.0, 3.0], n=n) for run, n in zip(runs, ("256", "2000"), strict=True)]
    with pytest.raises(ConfigError, match=r"n: a has 256, b has 2000 \(distance against \$time\)"):
        require_comparable(shared)


def test_the_loss_of_each_phase_is_drawn_with_a_line_for_each_run(runs):
    found = {axes.get_title(loc="left"): axes for axes in picture(runs).get_axes()}
    for phase in ("backbone", "prior"):
        assert found[f"training loss, phase {phase}"].get_legend_handles_labels()[1] == ["a", "b"]


def test_latex_has_a_row_for_each_variant_the_best_in_bold_and_no_character_that_latex_would_take_for_markup(tmp_path):
    gaps = {"joint": (0.5, 0.7), "50%_$": (0.1, -0.1)}
    runs = [
        compared(finished_run(tmp_path, f"{prior[:2]}-{seed}", seed, prior, gap=gap, with_samples=False))
        for prior, both in gaps.items()
        for seed, gap in enumerate(both)
    ]
    write_comparison(runs, tmp_path / "table.tex")
    text = (tmp_path / "table.tex").read_text()
    first, second = text.partition("\\midrule\n")[2].splitlines()[:2]
    assert text.count("\\midrule") == text.count("\\toprule") == text.count("\\bottomrule") == 1
    assert first.startswith(r"joint & \textbf{60.0 $\pm$ 14.1 \%} &")
    assert second.startswith(r"50\%\_\$ $^\dagger$ & 0.0 $\pm$ 14.1 \% &")
    assert second.count(" & ") == text.partition("{tabular}{")[2].partition("}")[0].count("r")


def test_differences_are_on_the_page_in_markdown_and_in_json(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison_files, "picture", lambda runs: Figure())
    runs = [compared(finished_run(tmp_path, f"{p}-{s}", s, p, with_samples=False)) for p in "ab" for s in (0, 1)]
    for ending in ("html", "md", "json"):
        write_comparison(runs, tmp_path / f"out.{ending}", "a")
    assert "minus a" in (tmp_path / "out.html").read_text()
    assert "| minus a | pairs |" in (tmp_path / "out.md").read_text()
    first, *_, last = json.loads((tmp_path / "out.json").read_text())
    assert "differences" not in first
    assert (last["variant"], last["baseline"]) == ("b", "a")
    assert last["differences"]["fd.prior.classifier"] == {"mean": 0.0, "half": 0.0, "pairs": 2}
