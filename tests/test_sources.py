import sys

import pytest

from hebm.sources import glance


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module into a package on the path and gives its name; each test has a package of its own."""
    package = f"glanced_{abs(hash(tmp_path))}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source):
        (tmp_path / package / "part.py").write_text(source, encoding="utf-8")
        return f"{package}.part"

    yield write
    assert package not in sys.modules


def test_file_line_and_summary_are_read_without_importing_even_the_package(module):
    seen = glance(module('import os\n\n\nclass A:\n    """First.\n\n    Second."""\n'), "A")
    assert (seen.line, seen.summary, seen.problem) == (4, "First.", None)
    assert seen.file.endswith("part.py")


def test_a_name_bound_in_a_branch_imported_or_assigned_is_there(module):
    source = (
        "try:\n    from os import path as A\nexcept ImportError:\n    A = None\nif 1:\n    class B: pass\nC = D = 1\n"
    )
    for name in "ABCD":
        assert glance(module(source), name).problem is None


def test_an_absent_name_is_a_problem_unless_it_could_come_from_elsewhere(module):
    assert "no 'Prior'; did you mean 'Priors'?" in glance(module("class Priors: pass"), "Prior").problem
    assert glance(module("from os import *"), "A").problem is None
    assert glance(module("def __getattr__(name): return 1"), "A").problem is None


def test_only_an_unconditional_import_of_something_not_installed_is_a_problem(module):
    assert "needs 'not_there_at_all'" in glance(module("import not_there_at_all.x\nA = 1"), "A").problem
    guarded = "try:\n    import not_there_at_all\nexcept ImportError: pass\nA = 1"
    assert glance(module(guarded), "A").problem is None


def test_a_built_in_module_tells_nothing_and_is_no_problem():
    assert glance("sys", "path").problem is None
