"""Configurations that come with hebm are found by name."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from hebm.cli.main import main
from hebm.config.experiment import Experiment
from hebm.config.shipped import found, named, shipped
from hebm.errors import ConfigError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_every_file_of_the_benchmarks_has_a_name():
    assert shipped()["quickstart"] == BENCHMARKS / "quickstart.toml"
    assert shipped()["nvae/cifar10"] == BENCHMARKS / "nvae" / "cifar10.toml"
    assert len(shipped()) == len(list(BENCHMARKS.rglob("*.toml")))


def test_a_file_of_the_users_comes_first_and_a_missing_file_is_left_to_its_reader(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert found(Path("quickstart")) == BENCHMARKS / "quickstart.toml"
    assert found(Path("missing.toml")) == Path("missing.toml")
    (tmp_path / "quickstart").mkdir()
    assert found(Path("quickstart")) == Path("quickstart")


def test_an_unknown_name_is_an_error_with_near_names_and_the_folders():
    with pytest.raises(ConfigError) as caught:
        named("quikstart", "quikstart: no such file")
    said = str(caught.value)
    assert said.startswith("quikstart: no such file; did you mean 'quickstart'? (available: cifar, ")
    assert "sweeps/ (5)" in said
    assert "nvae/cifar10" not in said


def test_a_command_takes_the_name_and_refuses_a_sweep_by_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["run", "sweeps/priors-mnist"])
    assert (result.exit_code, "is a sweep file, for several runs" in result.stderr) == (2, True)
    result = CliRunner().invoke(main, ["sweep", "quickstart"])
    assert (result.exit_code, "is not a sweep" in result.stderr) == (2, True)


def test_init_copies_a_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["init", "mine", "--from", "quickstart"]).exit_code == 0
    assert Experiment.load("mine.toml").name == "mine"
    assert (tmp_path / "mine.toml").read_text() == (BENCHMARKS / "quickstart.toml").read_text()
    for source, said in (
        ("sweeps/priors-mnist", "run it with `hebm sweep sweeps/priors-mnist`"),
        ("nope", "no config"),
    ):
        result = CliRunner().invoke(main, ["init", "other", "--from", source])
        assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert not (tmp_path / "other.toml").exists()
