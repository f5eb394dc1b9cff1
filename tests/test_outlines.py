import json
import subprocess
import sys

import pytest

from hebm.cli.plugin_keys import require_readable
from hebm.outlines import Outlines, Unread, Unreadable

RECIPE = """
from __future__ import annotations
import heavy_library
from heavy_library import Net
from hebm.config.recipes import option, recipe
from .values import WIDTH, made
from .values import Inner as Nested

NETS = {"silu": heavy_library.SiLU, "relu": Net.relu}

@recipe
class Wide:
    \"\"\"First line.\"\"\"

    width: int = option(WIDTH, doc="units")
    net: str = option("silu", choices=tuple(NETS), doc="activation")
    inner: Nested = option(factory=lambda: made(3), doc="a table")

    def build(self, layout: heavy_library.Layout = None) -> Net:
        return Net()

@recipe
class Broken:
    width: int = option(len(heavy_library.SIZES), doc="units")

@recipe
class Hidden:
    net: str = option(heavy_library.DEFAULT, doc="activation")
"""
VALUES = """
from hebm import option, recipe
from hebm.config import recipes

WIDTH = TWICE = 2 * 8
TWICE = 3

@recipes.recipe
class Inner:
    depth: int = recipes.option(1, doc="layers", low=1)

    def __attrs_post_init__(self):
        check(self)

def check(inner):
    if inner.depth == 7:
        raise ValueError("seven")

def made(depth: int) -> Inner:
    return Inner(depth=depth)
"""
EVERY_COMPONENT = """
import sys
from hebm import registry
from hebm.cli import plugins
from hebm.outlines import Unreadable

names = [(group, name) for group in registry.GROUPS if group != registry.COMMANDS for name in registry.names(group)]
read = {}
with registry.reading():
    for group, name in names:
        plugins.require_readable(registry.find(group, name))
        read[group, name] = plugins._text(group, name), plugins._plain(group, name)
assert not {"torch", "hebm_plugins"} & set(sys.modules), "a component was imported"
for group, name in names:
    assert read[group, name] == (plugins._text(group, name), plugins._plain(group, name)), (group, name)
print(len(names))
"""


@pytest.fixture
def outlines(tmp_path, monkeypatch):
    """Reads a package `outlined` of the modules below, which cannot be imported."""
    package = tmp_path / "outlined"
    package.mkdir()
    sources = {"__init__": "raise RuntimeError('imported')", "recipes": RECIPE, "values": VALUES}
    sources |= {"acts": "WIDTH = 3\nprint('acts')\n", "wrong": "WIDTH = = 3\n", "huge": f"WIDTH = 3{' ' * 2**20}\n"}
    for name, source in sources.items():
        (package / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Outlines({"outlined"})
    assert "outlined" not in sys.modules


def test_the_keys_of_every_registered_component_are_read_as_they_are_imported():
    done = subprocess.run([sys.executable, "-c", EVERY_COMPONENT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 70


def test_an_outline_has_docstring_defaults_and_tables_of_other_modules(outlines):
    wide = outlines.get("outlined.recipes", "Wide")
    assert wide.__doc__.startswith("First line.")
    assert (wide().width, wide().net, wide().inner.depth) == (16, "silu", 3)
    assert wide.Inner is outlines.get("outlined.values", "Inner")


def test_the_checks_of_an_outline_run_with_the_functions_of_its_module(outlines):
    with pytest.raises(ValueError, match="seven"):
        outlines.get("outlined.values", "Inner")(depth=7)


def test_a_recipe_whose_keys_need_a_library_is_not_read(outlines):
    assert isinstance(outlines.get("outlined.recipes", "Broken"), Unread)
    with pytest.raises(Unreadable, match="the default of net depends on a library"):
        require_readable(outlines.get("outlined.recipes", "Hidden"))


def test_a_name_that_is_bound_twice_is_not_read(outlines):
    assert isinstance(outlines.get("outlined.values", "TWICE"), Unread)


@pytest.mark.parametrize("module", ["acts", "wrong", "huge", "none"])
def test_a_module_that_acts_or_cannot_be_parsed_is_unreadable(outlines, module):
    with pytest.raises(Unreadable):
        outlines.get(f"outlined.{module}", "WIDTH")


def test_an_absent_name_is_unreadable(outlines):
    with pytest.raises(Unreadable):
        outlines.get("outlined.values", "NONE")


@pytest.mark.parametrize(
    "use", [bool, len, repr, list, json.dumps, lambda it: it == 1, lambda it: type("A", (it,), {})]
)
def test_a_value_of_a_library_is_stored_but_not_used(outlines, use):
    nets = outlines.get("outlined.recipes", "NETS")
    assert list(nets) == ["silu", "relu"]
    with pytest.raises((Unreadable, TypeError)):
        use(nets["silu"])
