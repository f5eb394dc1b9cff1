"""Facts about large files are computed once, until the file changes."""

import os

import pytest

from hebm.config.settings import RunSettings
from hebm.data import file_facts
from hebm.data.file_facts import FileFacts, storing_facts
from hebm.errors import DataError


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(file_facts, "SMALLEST", 4)
    (path := tmp_path / "a.npy").write_bytes(b"12345")
    return path


@pytest.fixture
def run(tmp_path):
    return RunSettings(cache_folder=str(tmp_path / "cache"))


def asked(path, run, what="sum", found=("1",)):
    """The fact, and whether it was computed."""
    calls = []
    with storing_facts(run):
        facts = FileFacts.of(path)
    return facts.get(what, lambda: calls.append(1) or found), bool(calls)


def test_a_fact_is_computed_once_and_again_for_a_changed_file_or_another_question(file, run):
    assert asked(file, run) == (("1",), True)
    assert asked(file, run, found=("2",)) == (("1",), False)
    assert asked(file, run, "other", ("2",)) == (("2",), True)
    os.utime(file, ns=(1, 1))
    assert asked(file, run, found=("3",)) == (("3",), True)


def test_nothing_is_stored_about_small_files_and_outside_of_the_context(file, run, tmp_path):
    assert FileFacts.of(file).get("sum", lambda: ("1",)) == ("1",)
    (small := tmp_path / "small.npy").write_bytes(b"1")
    assert [asked(small, run)[1] for _ in range(2)] == [True, True]
    assert not (tmp_path / "cache").exists()


def test_a_fact_about_a_file_that_changes_meanwhile_is_not_stored(file, run):
    with storing_facts(run):
        facts = FileFacts.of(file)
    facts.get("sum", lambda: (str(file.write_bytes(b"123456")),))
    assert asked(file, run)[1]


def test_a_damaged_file_of_facts_is_replaced(file, run, tmp_path):
    asked(file, run)
    (stored,) = (tmp_path / "cache" / "facts").iterdir()
    stored.write_text('{"about": 1}')
    assert asked(file, run) == (("1",), True)
    assert asked(file, run) == (("1",), False)


def test_a_folder_that_cannot_be_written_only_costs_time(file, tmp_path):
    (blocked := tmp_path / "blocked").write_text("a file")
    assert asked(file, RunSettings(cache_folder=str(blocked))) == (("1",), True)


def test_a_missing_file_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match=r"none\.npy: cannot be read"):
        FileFacts.of(tmp_path / "none.npy")
