"""The page of promises says what the code does: its names exist, its numbers agree, and nothing public is left out."""

import ast
import importlib
import inspect
import re
from pathlib import Path
from string import Template

import pytest

import hebm
import hebm.errors
import hebm.interfaces
import hebm.testing
from hebm.cli.kinds import KINDS
from hebm.entry_points import GROUPS, INTERFACE_GROUP

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "plugins" / "PROMISES.md").read_text(encoding="utf-8")
SKELETON = ROOT / "hebm" / "cli" / "skeleton"
TEMPLATE, FLOWS = (ROOT / "plugins" / f"hebm-plugin-{name}" for name in ("template", "flows"))


def section(title):
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def cells(title):
    """The rows of a section's table, without its two lines of header."""
    rows = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[1:]]


def quoted(text):
    return re.findall(r"`([^`]+)`", text)


def promised():
    """The promised names of each module: those of the table, and of the modules whose `__all__` is promised."""
    whole = {module.__name__: set(module.__all__) for module in (hebm, hebm.interfaces, hebm.testing)}
    whole["hebm.errors"] = {name for name, value in vars(hebm.errors).items() if isinstance(value, type)}
    for modules, names in cells("Python names"):
        for module, few in zip(quoted(modules), names.split("; "), strict=True):
            whole[module] = set(quoted(few))
    return whole


def imported(source):
    """(module, name) of each `from hebm… import`."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module]
    return {(node.module, alias.name) for node in nodes if node.module.split(".")[0] == "hebm" for alias in node.names}


WORDS = {"name": "own", "package": "hebm_own", "class_name": "Own", "title": "own", "kind": "own", "does": "own"}
EXAMPLES = [*SKELETON.glob("*.py.txt"), *TEMPLATE.rglob("*.py"), *FLOWS.rglob("*.py")]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_what_authors_copy_imports_only_promised_names(path):
    known = promised()
    for module, name in imported(Template(path.read_text(encoding="utf-8")).safe_substitute(WORDS)):
        component = module == "hebm" and name not in hebm.__all__ and isinstance(getattr(hebm, name), type)
        assert component or name in known.get(module, ()), f"{module}.{name}"


@pytest.mark.parametrize("module", sorted(promised()))
def test_every_promised_name_exists_and_is_documented(module):
    found = importlib.import_module(module)
    for name in promised()[module]:
        value = getattr(found, name)
        if inspect.isroutine(value) or isinstance(value, type):
            assert value.__doc__, f"{module}.{name}"


@pytest.mark.parametrize(("number", "where"), [(row[1], quoted(row[2])[0]) for row in cells("Numbers")])
def test_numbers_are_those_of_the_code(number, where):
    module, _, name = where.partition(":")
    assert str(getattr(importlib.import_module(module), name)) == number


def test_every_number_of_a_file_is_on_the_page():
    numbered = re.compile(r"^(FORMAT|SCHEMA|INTERFACE) = \d", re.MULTILINE)
    listed = {quoted(row[2])[0].partition(":")[0] for row in cells("Numbers")}
    for path in (ROOT / "hebm").rglob("*.py"):
        if numbered.search(path.read_text(encoding="utf-8")):
            assert ".".join(path.relative_to(ROOT).with_suffix("").parts) in listed


def test_every_entry_point_group_is_on_the_page():
    assert set(re.findall(r"`(hebm_\w+)`", section("Python names"))) == {*GROUPS, INTERFACE_GROUP}


def test_the_interface_of_every_group_is_promised():
    known = promised()
    for path in (path for group, path in GROUPS.items() if group != "hebm_commands"):
        name = path.partition(":")[2]
        assert any(name in names for names in known.values()), path


def test_every_kind_of_skeleton_is_read_by_these_tests():
    assert {path.name for path in EXAMPLES} >= {f"{kind}.py.txt" for kind in KINDS}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_page_is_linked(page):
    assert "(plugins/PROMISES.md)" in (ROOT / page).read_text(encoding="utf-8")
