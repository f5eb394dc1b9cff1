"""Paths on the command line: `~` and variables are replaced, and errors say what place was looked at."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from hebm import registry
from hebm.cli.main import main
from hebm.cli.options import UserPath
from hebm.config.paths import expanded


def given(text, **options):
    return UserPath(**options).convert(text, None, None)


def test_home_and_variables_are_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    assert given("~/runs/x") == tmp_path / "runs" / "x"
    assert given("$SCRATCH/runs") == Path("/scratch/me/runs")
    assert given("a~b/$UNKNOWN_VARIABLE_OF_NOBODY") == Path("a~b/$UNKNOWN_VARIABLE_OF_NOBODY")


def test_a_relative_path_that_is_missing_is_told_with_the_place_that_was_looked_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(click.BadParameter, match=f"'nowhere' does not exist. Tried: {tmp_path / 'nowhere'}"):
        given("nowhere", exists=True)
    with pytest.raises(click.BadParameter) as caught:
        given("/nowhere/at/all", exists=True)
    assert "Tried" not in caught.value.message


def test_every_path_of_a_command_is_such_a_path():
    commands = [registry.find("hebm_commands", name) for name in registry.names("hebm_commands")]
    paths = [(c.name, p.name, p.type) for c in commands for p in c.params if isinstance(p.type, click.Path)]
    assert len(paths) > 20
    assert [found[:2] for found in paths if not isinstance(found[2], UserPath)] == []


def test_the_cache_folder_may_start_with_a_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    assert expanded("$SCRATCH/cache") == str(tmp_path / "cache")
    result = CliRunner().invoke(main, ["clean", "$SCRATCH/cache"])
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "cache") in result.output
