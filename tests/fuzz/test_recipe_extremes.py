"""R11: values at and beyond the bounds of any shipped recipe give a model, or an error that names the key."""

import functools

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from quiet import QUIET
from recipe_tables import KEY, extreme

import hebm
from hebm import pipeline
from hebm.config.experiment import Experiment
from hebm.errors import HebmError
from hebm_plugins.datasets import digits

SETTINGS = {**QUIET, "phases": [Phase.generate]}  # a failing table is small as it is


@pytest.fixture(autouse=True, scope="module")
def elsewhere(tmp_path_factory):
    """A folder of its own, for caches and files that a configuration names; the digits are read once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("extremes"))
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(digits, "_table", functools.cache(digits._table))
        yield


@st.composite
def tables(draw, trained=False):
    return extreme(lambda choices: draw(st.sampled_from(choices)), trained)


def error_of(table, use):
    """The error that refuses a table; None if it can be used. Any other error is a failure."""
    try:
        use(Experiment.from_table(table))
    except HebmError as error:
        return error
    return None


def survives(table, use):
    error = error_of(table, use)
    assert error is None or KEY.search(str(error)), f"no key in: {error}"


@given(tables())
@settings(max_examples=40, **SETTINGS)
def test_extreme_values_are_assembled_or_refused_by_name(table):
    survives(table, pipeline.assemble)


@pytest.mark.slow
@given(tables())
@settings(max_examples=10_000, **SETTINGS)
def test_ten_thousand_extreme_configurations_are_assembled_or_refused_by_name(table):
    survives(table, pipeline.assemble)


@pytest.mark.slow
@given(tables(trained=True))
@settings(max_examples=500, **SETTINGS)
def test_five_hundred_extreme_configurations_take_steps_or_are_refused_by_name(table):
    survives(table, hebm.check)
