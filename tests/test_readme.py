"""The README's own prior is a prior: it keeps the promises that the kit tests."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from torch import Tensor

import hebm
import hebm.config.recipe
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
    vars(module).update(recipe=hebm.config.recipe.recipe, option=hebm.config.recipe.option, hebm=hebm, Tensor=Tensor)
    exec(compile("from __future__ import annotations\n" + code, "README.md", "exec"), vars(module))
    return module.MyRecipe(width=8)


OWN = own_prior()


@pytest.fixture(autouse=True)
def installed():
    register("hebm_priors", "my-prior", type(OWN))
    yield
    unregister("hebm_priors", "my-prior")


@parametrize(cases(OWN))
def test_your_own_prior_keeps_every_promise(check):
    check()
