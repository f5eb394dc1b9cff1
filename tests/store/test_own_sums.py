"""A JSON file that holds its own sum: every changed digit is noticed."""

import json

import pytest

from hebm.store.json_shapes import ShapeError
from hebm.store.own_sums import require_own_sum, without_sum, write_summed

TABLE = {"title": "ü", "values": (1.5, float("nan"), 1e-300), "inner": {3: [None, True]}}


@pytest.fixture
def path(tmp_path):
    write_summed(tmp_path / "x.json", TABLE)
    return tmp_path / "x.json"


def test_what_is_written_is_the_table_and_its_sum(path):
    read = json.loads(path.read_text())
    require_own_sum(read)
    assert without_sum(read) == {"title": "ü", "values": [1.5, None, 1e-300], "inner": {"3": [None, True]}}
    assert list(read) == [*TABLE, "sha256"]


def test_any_other_content_is_noticed(path):
    read = json.loads(path.read_text())
    for changed in ({"title": "u"}, {"values": [1.4, None, 1e-300]}, {"inner": {}}, {"sha256": "0"}, {"more": 1}):
        with pytest.raises(ShapeError, match="its content differs from its sha256"):
            require_own_sum({**read, **changed})


def test_a_file_without_a_sum_is_not_checked():
    require_own_sum({"title": "x"})
    assert without_sum([1]) == [1]
