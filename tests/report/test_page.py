import json
import re
import shutil

import attrs
import pytest
import torch
from finished_run import finished_run
from real_runs import tiny, train

from hebm.errors import CheckpointError, DataWarning
from hebm.evaluation.metric import Measurement
from hebm.evaluation.metrics_file import Results
from hebm.printable import printable
from hebm.report.grids import save_grid
from hebm.report.page import write_report
from hebm.report.plot_data import read_plots
from hebm.store import sums
from hebm.store.metrics import json_bytes
from hebm.store.run_folder import RunFolder


def test_the_page_of_a_finished_run_shows_every_part(tmp_path):
    folder = finished_run(tmp_path)
    assert write_report(folder) == folder.report
    page = folder.report.read_text()
    for part in (
        "77.9 %",
        "29.0 %",
        "Fréchet distance 51.9",
        "closes most of the gap",
        "81.2 ± 0.32",
        "N = 2,000",
        "extractor classifier",
        "seed 0",
    ):
        assert part in page
    assert page.count("data:image/png") == 5
    for part in ("chain of 10 steps", "1 of which ended with values that are not finite", "acceptance rate 61.0 %"):
        assert part in page
    for part in ("type = &#34;joint&#34;", "hebm run config.toml", "train f00d", "Log tilt f"):
        assert part in page
    assert "notice" not in page.partition("</style>")[2]


def test_text_from_outside_is_escaped_and_spelled_out(tmp_path):
    folder = finished_run(tmp_path, name="a")
    config = folder.config.read_text().replace('"a"', '"<script>\\u202e\\u001b$"')
    manifest = {**json.loads(folder.manifest.read_text()), "platform": "<img src=x>\u2066\x1b\udcff"}
    sums.write(folder.path, {sums.CONFIG: config.encode(), sums.MANIFEST: json_bytes(manifest)})
    page = write_report(folder).read_text()
    assert r"<h1>&lt;script&gt;\u202e\x1b$</h1>" in page
    assert r"&lt;img src=x&gt;\u2066\x1b\udcff" in page
    assert printable(page, "\n") == page


def test_the_page_asks_for_no_other_file(tmp_path):
    page = write_report(finished_run(tmp_path)).read_text()
    sources = re.findall(r"""(?:src|href)\s*=\s*["']([^"']*)""", page)
    assert sources
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    assert not re.findall(r"@import|url\(|<script|https?://", page)


def test_a_log_that_ends_before_its_finished_run_is_a_warning(tmp_path):
    train(tiny("two-phase"), tmp_path / "tiny")
    folder = RunFolder(tmp_path / "tiny")
    write_report(folder)
    lines = folder.metrics_log.read_text().splitlines(keepends=True)
    folder.metrics_log.write_text("".join(lines[:-5]))
    with pytest.warns(DataWarning, match=r"metrics\.jsonl ends at step 7 of 12"):
        write_report(folder)


def test_the_contents_name_every_section(tmp_path):
    page = write_report(finished_run(tmp_path)).read_text()
    headings = re.findall(r'<h2 id="([^"]*)">', page)
    assert headings == re.findall(r'<a href="#([^"]*)">', page)
    assert len(headings) == page.count("<h2")


def test_curves_of_a_backbone_that_was_taken_over_come_first(tmp_path):
    first = finished_run(tmp_path, "first")
    folder = finished_run(tmp_path)
    folder.metrics_log.write_text(
        "".join(f'{{"phase": "stage 1", "step": {i}, "total_step": {i}, "loss": {i}.5}}\n' for i in (1, 2))
    )
    folder.config.write_text(folder.config.read_text() + f'backbone_from = "{first.path}"\n')
    folder.accept()
    page = write_report(folder).read_text()
    phases = re.findall(r'<h3>(\S.*?) <span class="soft">(.*?)</span>', page)
    assert phases == [("backbone", "200 steps, of the run that trained the backbone"), ("stage 1", "2 steps")]
    shutil.rmtree(first.path)
    assert "of the run that trained" not in write_report(folder).read_text()


def test_draws_by_class_are_shown_with_their_names(tmp_path):
    folder = finished_run(tmp_path)
    plots = read_plots(folder.samples)
    save_grid(torch.zeros(4, 1, 8, 8), folder.samples / "classes.png", 2)
    images = {**plots.images, "classes": "classes.png"}
    attrs.evolve(plots, images=images, classes=("cat", "<dog>")).write(folder.samples)
    assert "from the top: cat, &lt;dog&gt;." in write_report(folder).read_text()


def test_drawing_it_again_gives_the_same_page(tmp_path):
    folder = finished_run(tmp_path)
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first


def test_a_run_that_is_not_evaluated_yet_says_so(tmp_path):
    folder = finished_run(tmp_path, with_samples=False)
    folder.metrics.unlink()
    folder.metrics_log.unlink()
    page = write_report(folder).read_text()
    for part in ("Not evaluated yet", "not been drawn", "not been recorded", "logged nothing yet"):
        assert part in page


def test_what_comes_from_files_cannot_become_markup(tmp_path):
    script, image = "<script>alert(1)</script>", "<img src=x>"
    more = Measurement("evil", 1.0, script, part=image, unit=script, conditions={script: image}, note=image)
    folder = finished_run(tmp_path, more=(more,))
    folder.config.write_text(folder.config.read_text().replace('"demo"', '"<b>demo</b>"'))
    folder.accept()
    page = write_report(folder).read_text()
    assert "<script>" not in page
    assert "<img src=x>" not in page
    assert "<b>demo" not in page


def test_grids_drawn_during_training_are_shown_in_order(tmp_path):
    folder = finished_run(tmp_path)
    for step in range(100, 2000, 100):
        (folder.samples / f"step-{step:08d}.png").write_bytes((folder.samples / "data.png").read_bytes())
    (folder.samples / "step-notes.png").write_bytes(b"")
    shown = re.findall(r"<span>step ([\d,]+)</span>", write_report(folder).read_text())
    assert len(shown) <= 8
    assert shown[-1] == "1,900"


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(CheckpointError, match="is not a run folder"):
            write_report(RunFolder(folder))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", "{"),
        ("metrics.json", "3"),
        ("metrics.json", '{"fd": {"prior": 3.0}, "n": 10}'),
        ("config.toml", "a = = b"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, name, content):
    folder = finished_run(tmp_path)
    (folder.path / name).write_text(content)
    with pytest.raises(CheckpointError, match=f"{re.escape(name)} was changed or damaged"):
        write_report(folder)


def test_a_run_without_any_measurement_makes_a_page_too(tmp_path):
    folder = finished_run(tmp_path)
    folder.write_metrics(Results().to_json())
    page = write_report(folder).read_text()
    assert "Not evaluated yet" not in page
    assert "<h2>Metrics" not in page


def test_a_prior_of_energies_that_see_one_layer_each_is_pointed_to_the_analysis_of_the_hole(tmp_path):
    folder = finished_run(tmp_path)
    assert "hebm analyse RUN hole" not in write_report(folder).read_text()
    plots = read_plots(folder.samples)
    attrs.evolve(plots, single_layers=6).write(folder.samples)
    page = write_report(folder).read_text()
    assert "one of 6 layers" in page
    assert "hebm analyse RUN hole" in page
