"""The page shows every analysis that lies in the run folder."""

import pytest
import torch
from finished_run import finished_run

from hebm.analysis.section import Picture, Section, Table
from hebm.errors import CheckpointError, DataWarning
from hebm.report.grids import save_grid
from hebm.report.page import write_report

SECTION = Section(
    "Chains & <more>",
    ("A <b>paragraph</b>.",),
    (Picture("grid.png", "A grid", "its caption", pixels=True), Picture("gone.png", "A plot")),
    (Table("Mixing", ("", "R̂"), (("log density", "1.02"),), "over the second half"),),
)


def test_words_tables_and_pictures_are_on_the_page_and_escaped(tmp_path):
    folder = finished_run(tmp_path)
    save_grid(torch.zeros(4, 1, 8, 8), folder.analyses / "chains" / "grid.png")
    SECTION.write(folder.analyses / "chains", {"seed": 0})
    with pytest.warns(DataWarning, match=r"gone\.png is missing.*hebm analyse chains makes it again"):
        page = write_report(folder).read_text()
    assert '<h2 id="section-1">Chains &amp; &lt;more&gt;</h2>' in page
    assert "A &lt;b&gt;paragraph&lt;/b&gt;." in page
    assert "<td>1.02</td>" in page
    assert 'alt="A grid"' in page
    assert "gone.png no longer exists" in page
    ends = ("Energies</h2>", "Chains &amp; &lt;more&gt;</h2>", "Training</h2>")
    places = [page.index(heading) for heading in ends]
    assert places == sorted(places)


def test_a_run_without_analyses_has_a_page_without_them(tmp_path):
    assert 'class="analysis"' not in write_report(finished_run(tmp_path)).read_text()


def test_a_damaged_analysis_is_an_error(tmp_path):
    folder = finished_run(tmp_path)
    (folder.analyses / "chains").mkdir(parents=True)
    (folder.analyses / "chains" / "section.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"section\.json is damaged"):
        write_report(folder)
