"""The examples in docstrings hold."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = [*(ROOT / "hebm").rglob("*.py"), *(ROOT / "plugins" / "hebm_plugins").rglob("*.py")]


def modules():
    """Dotted names of the modules that have examples."""
    for path in SOURCES:
        if ">>> " in path.read_text():
            base = ROOT if path.is_relative_to(ROOT / "hebm") else ROOT / "plugins"
            parts = path.relative_to(base).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("name", sorted(modules()))
def test_examples_of_a_module(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed
