"""Plugins as a user installs them: a distribution on the path."""

import pytest
from real_runs import install


@pytest.fixture
def plugin(tmp_path):
    """`plugin(group, name, "module:Class", source)` makes a distribution; returns the folder for the path."""
    return lambda group, name, target, source: install(tmp_path / "site", group, name, target, source)
