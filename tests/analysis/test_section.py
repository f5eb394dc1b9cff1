import json

import pytest

from hebm.analysis.compared_plot import Curve, Plot
from hebm.analysis.section import Picture, Section, Table, read_section, read_sections, write_csv
from hebm.errors import CheckpointError

SECTION = Section(
    "Chains",
    ("One.", "Two."),
    (Picture("a.png", "a grid", "how to read it", pixels=True),),
    (Table("t", ("", "x"), (("row", "1"),), "what it is"),),
    {"fd": {"10": 1.5}},
    ("It took 3 s.",),
    (
        Plot(
            "p", "ms", (Curve("c", (1.0, 2.0), (0.5, None), (0.1, None), ("a", "b")),), {"level": 1.0}, {"n": "2"}, True
        ),
    ),
)


def test_a_section_goes_to_a_folder_and_back(tmp_path):
    SECTION.write(tmp_path, {"seed": 3})
    assert read_section(tmp_path) == SECTION
    assert json.loads((tmp_path / "section.json").read_text())["conditions"] == {"seed": 3}


def test_numbers_that_are_not_finite_become_null(tmp_path):
    Section("s", numbers={"fd": float("nan")}).write(tmp_path, {})
    assert read_section(tmp_path).numbers == {"fd": None}


def test_sections_are_found_by_name_and_unfinished_ones_are_not(tmp_path):
    for name in ("ood", "chains", ".tmp-ood-1"):
        (tmp_path / name).mkdir()
        SECTION.write(tmp_path / name, {})
    assert list(read_sections(tmp_path)) == ["chains", "ood"]
    assert read_sections(tmp_path / "none") == {}


def test_a_changed_number_is_an_error_that_names_the_file(tmp_path):
    SECTION.write(tmp_path, {})
    path = tmp_path / "section.json"
    path.write_text(path.read_text().replace("0.5", "0.7"))
    with pytest.raises(CheckpointError, match=r"section\.json is damaged.*differs from its sha256; run hebm analyse"):
        read_section(tmp_path)


def test_a_folder_that_lacks_its_section_is_an_error_and_an_empty_one_is_not(tmp_path):
    (tmp_path / "chains").mkdir()
    assert read_sections(tmp_path) == {}
    (tmp_path / "chains" / "long.png").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"chains/section\.json: No such file"):
        read_sections(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"title": "x"}', '{"title": "x", "text": [], "pictures": [{}]}'])
def test_a_damaged_section_is_an_error_that_says_how_to_mend_it(tmp_path, content):
    (tmp_path / "section.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"section.json is damaged.*hebm analyse"):
        read_section(tmp_path)


def test_a_table_for_programs_is_plain_csv(tmp_path):
    write_csv(tmp_path / "t.csv", ("name", "x"), [("a,b", 0.5)])
    assert (tmp_path / "t.csv").read_text() == 'name,x\n"a,b",0.5\n'
