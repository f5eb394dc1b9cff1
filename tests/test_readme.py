"""Every block of code in the README, and in the guide to Python, does what the page says."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import hebm
from hebm import registry
from hebm.cli.main import main
from hebm.config.experiment import Experiment
from hebm.registry import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "guides" / "own-tensors.md").read_text(encoding="utf-8")
SHORT = {"train.backbone.steps": 4, "train.prior.steps": 2, "evaluate.samples": 128, "run.device": "cpu"}


def blocks(text, language):
    """The code blocks of a language, as they stand."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def changes(tmp_path_factory):
    """Changes of keys that make a run short; extractors are trained once."""
    return {**SHORT, "run.cache_folder": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture
def short(tmp_path, monkeypatch, changes):
    """A folder to start Python in, where `hebm.train` takes a few steps and evaluations draw few images."""
    train = hebm.train

    def train_shortly(experiment, folder):
        experiment.save(tmp_path / "short.toml")
        live = {"data": experiment.data}
        return train(Experiment.load(tmp_path / "short.toml", {**changes, **live}), folder, progress=False)

    monkeypatch.setattr(hebm, "train", train_shortly, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def printed(tmp_path_factory, changes):
    """What the README's first command prints, with fewer steps."""
    folder = tmp_path_factory.mktemp("clone")
    file = folder / "benchmarks" / "quickstart.toml"
    Experiment.load(ROOT / "benchmarks" / "quickstart.toml", changes).save(file)
    *_, command = blocks(README, "sh")[0].strip().split(" && ")
    executable, *words = shlex.split(command)
    assert executable == ".venv/bin/hebm"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert (folder / "runs" / "quickstart" / "report.html").is_file()
    return result.stdout


def labels(table):
    """The lines of a table without their numbers."""
    return [re.sub(r"\s+[−\d][\d.e+-]*( ± \S+)?( %)?$", "", line) for line in table.splitlines()]


def test_readme_has_no_block_that_is_not_tested_here():
    opened = re.findall(r"^```(\w*)$", README, re.MULTILINE)[::2]
    assert opened == ["sh", "sh", "text", "toml", "python"]
    assert len(README.splitlines()) <= 120


def test_first_command_prints_the_rows_of_the_table(printed):
    (table,) = blocks(README, "text")
    temperatures = {"  temperature τ"}  # found by a search, whose best may be 1 after a few steps
    shown = [label for label in labels(table) if label not in temperatures and "(n " not in label]
    assert [label for label in shown if label not in labels(printed)] == []


def test_second_command_is_what_ci_runs():
    pattern = re.search(r"grep -m 1 '(.*)' README.md", (ROOT / ".ci" / "run").read_text())[1]
    assert re.findall(pattern, README, re.MULTILINE) == [blocks(README, "sh")[1].strip()]


def test_file_is_complete():
    (code,) = blocks(README, "toml")
    experiment = Experiment.from_table(tomllib.loads(code))
    assert hebm.check(experiment)


def test_python_runs_word_for_word(short, capsys):
    (code,) = blocks(README, "python")
    names = {}
    exec(code, names)
    assert "Fréchet distance" in capsys.readouterr().out
    assert names["images"].shape == (16, 1, 8, 8)
    assert hebm.open_run("runs/demo").experiment.prior == names["experiment"].prior


def test_components_and_commands_of_the_text_exist():
    table = README.split("## What is included\n")[1].split("\n**Your")[0]
    for row, group in (("priors", "hebm_priors"), ("backbones", "hebm_backbones"), ("samplers", "hebm_samplers")):
        (line,) = re.findall(rf"^\| {row} \| (.*) \|$", table, re.MULTILINE)
        named = [name for name in re.findall(r"`([^`]+)`", line) if " " not in name]
        assert set(named) <= set(registry.names(group)), row
    commands = [
        name for row in re.findall(r"^\| `hebm (.*?) \|", table, re.MULTILINE) for name in re.findall(r"[a-z]+", row)
    ]
    assert set(commands) <= set(registry.names(COMMANDS))
    assert len(commands) == 13


@pytest.mark.slow
def test_guide_to_python_runs_word_for_word(short, monkeypatch):
    monkeypatch.setenv("HOME", str(short))  # for the cache
    (short / "benchmarks").mkdir()
    (short / "benchmarks" / "quickstart.toml").write_text((ROOT / "benchmarks" / "quickstart.toml").read_text())
    generator = torch.Generator().manual_seed(0)
    names = {"train": torch.rand(120, 16, 16, generator=generator), "labels": torch.arange(120) % 2}
    for code in blocks(GUIDE, "python"):
        exec(code.replace("sample_batches(50000)", "sample_batches(64)"), names)
    assert torch.equal(names["again"].sample(16, seed=0), names["images"])
    assert Experiment.load("mine.toml").prior.sampler.steps == 60
