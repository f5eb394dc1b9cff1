import csv
import io
import re

import pytest
from finished_run import finished_run
from PIL import Image

from hebm.errors import ConfigError, HebmError
from hebm.report.comparison import read_run, table
from hebm.report.comparison_files import as_csv, as_markdown, as_text, write_comparison


@pytest.fixture
def runs(tmp_path):
    return [
        read_run(finished_run(tmp_path, name=name, prior=prior)) for name, prior in (("a", "joint"), ("b", "gaussian"))
    ]


def test_text_columns_are_aligned(runs):
    header, *lines = as_text(table(runs)).splitlines()
    end = header.index("gap closed") + len("gap closed")
    assert [line[:end].endswith("77.9 %") for line in lines] == [True, True]


def test_csv_is_read_back_exactly(runs):
    rows = list(csv.DictReader(io.StringIO(as_csv(table(runs, exact=True)))))
    assert [(row["run"], row["prior"], float(row["FD prior"])) for row in rows] == [
        ("a", "joint", 51.93),
        ("b", "gaussian", 51.93),
    ]


def test_markdown_has_a_row_per_run(runs):
    assert as_markdown(table(runs)).count("\n") == 4


def test_the_page_asks_for_no_other_file(runs, tmp_path):
    write_comparison(runs, tmp_path / "out" / "compare.html")
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "2 runs compared" in page
    assert all(source.startswith("data:image/png") for source in re.findall(r'src="([^"]*)', page))


def test_the_picture_is_made_even_where_samples_or_distances_are_missing(runs, tmp_path):
    (runs[1].folder.samples / "prior.png").unlink()
    runs[1].metrics.pop("fd")
    write_comparison(runs, tmp_path / "compare.png")
    with Image.open(tmp_path / "compare.png") as image:
        assert image.width > 600


def test_a_damaged_grid_is_named(runs, tmp_path):
    (runs[0].folder.samples / "prior.png").write_bytes(b"no picture")
    with pytest.raises(HebmError, match=r"prior\.png is damaged"):
        write_comparison(runs, tmp_path / "compare.png")


def test_another_ending_is_refused_with_those_allowed(runs, tmp_path):
    with pytest.raises(ConfigError, match=r"\.html, \.png, \.csv, \.md"):
        write_comparison(runs, tmp_path / "compare.pdf")
    assert not (tmp_path / "compare.pdf").exists()
