import os
import re
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
        data = source if isinstance(source, bytes) else source.encode()
        (tmp_path / package / "part.py").write_bytes(data)
        return f"{package}.part"

    yield write
    assert package not in sys.modules


def test_file_line_and_summary_are_read_without_importing_even_the_package(module):
    seen = glance(module('import os\n\n\nclass A:\n    """First.\n\n    Second."""\n'), "A")
    assert (seen.line, seen.summary, seen.problem) == (4, "First.", None)
    assert seen.file.endswith("part.py")


def test_the_line_of_a_decorated_class_is_that_of_its_first_decorator(module):
    assert glance(module("import attrs\n\n\n@attrs.frozen\nclass A: pass\n"), "A").line == 4


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


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("x = " + "-" * 60_000 + "1\nclass A: pass", "too deeply nested"),
        ("if 0: pass\n" + "".join(f"elif {i}: pass\n" for i in range(3000)) + "class A: pass", "too deeply nested"),
        (b"class A: pass  # \xff\xfe", "SyntaxError|cannot be decoded"),
        (b"class A: pass\x00", "null bytes"),
        (b"# coding: no-such-encoding\nclass A: pass", "SyntaxError: unknown encoding"),
    ],
    ids=["expression", "elif", "not UTF-8", "null byte", "encoding"],
)
def test_a_source_that_python_cannot_parse_is_a_problem(module, source, problem):
    assert re.search(problem, glance(module(source), "A").problem)


def test_a_huge_source_is_left_alone(module):
    seen = glance(module("class A: pass\n" + "#" * 2**20), "A")
    assert (seen.problem, seen.summary, seen.line) == (None, "", None)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_the_place_of_a_source_is_not_read(module, tmp_path):
    name = module("")
    (source,) = tmp_path.glob("*/part.py")
    source.unlink()
    os.mkfifo(source)
    assert "not found" in glance(name, "A").problem
