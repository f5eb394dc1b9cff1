"""The code in the README does what the README says."""

import re
import sys
from pathlib import Path
from types import ModuleType

import attrs
import pytest
import torch
from torch import Tensor

import hebm
import hebm.config.recipes
import hebm.interfaces
from hebm.registry import register, unregister
from hebm.testing import cases, parametrize

README = (Path(__file__).parents[1] / "README.md").read_text()


def own_prior():
    """The recipe of section "Your own prior", with the names that the section says come from elsewhere."""
    section = README.split("## Your own prior")[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    module = sys.modules["my_package"] = ModuleType("my_package")
    vars(module).update({name: getattr(hebm.interfaces, name) for name in hebm.interfaces.__all__})
    vars(module).update(recipe=hebm.config.recipes.recipe, option=hebm.config.recipes.option, hebm=hebm, Tensor=Tensor)
    exec(compile("from __future__ import annotations\n" + code, "README.md", "exec"), vars(module))
    return module.MyRecipe(width=8)


OWN = own_prior()


@pytest.fixture(autouse=True)
def installed():
    register("hebm_priors", "my-prior", type(OWN))
    yield
    unregister("hebm_priors", "my-prior")


def code_of(section):
    """The Python blocks of a section, as they stand."""
    text = README.split(f"## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def started(tmp_path, monkeypatch):
    """A folder with the benchmark's file, shortened, as the place where Python is started."""
    file = tmp_path / "benchmarks" / "quickstart.toml"
    short = {"train.backbone.steps": 4, "train.prior.steps": 2, "evaluate.samples": 128, "run.device": "cpu"}
    hebm.Experiment.load(Path(__file__).parents[1] / "benchmarks" / "quickstart.toml", short).save(file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_same_in_python_runs_word_for_word(started, capsys):
    names = {}
    for block in code_of("The same in Python"):
        exec(block, names)  # the code that users are told to run
    printed = capsys.readouterr().out
    assert "Fréchet distance" in printed
    assert "64 samples drawn" in printed
    assert torch.equal(names["again"].sample(16, seed=0), names["images"])
    assert hebm.open_run("runs/demo").experiment.seed == 1
    assert hebm.Experiment.load("mine.toml") == attrs.evolve(names["experiment"], name="mine")


@parametrize(cases(OWN))
def test_your_own_prior_keeps_every_promise(check):
    check()
