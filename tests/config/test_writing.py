"""What is written is read back equal, for every registered component."""

import types
import typing

import attrs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hebm import registry
from hebm.config.experiment import Experiment
from hebm.config.recipes import fields_of, group_of, is_recipe
from hebm.config.writing import differences, dumps, to_table
from hebm.errors import ConfigError, PluginError


def numbers(kind, bounds):
    """Numbers within a field's bounds."""
    low, high = bounds.get("low", bounds.get("above")), bounds.get("high")
    if kind is int:
        return st.integers(low if low is None else int(low), high)
    return st.floats(low, high, allow_nan=False, allow_infinity=False, exclude_min="above" in bounds)


def values(annotation, bounds, depth):
    """Values of an annotation; components come from the registry, two levels deep."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values(argument, bounds, depth) for argument in arguments])
    if origin is tuple and arguments[1:] == (...,):
        return st.lists(values(arguments[0], bounds, depth), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(values(argument, bounds, depth) for argument in arguments))
    if origin is typing.Literal or "choices" in bounds:
        return st.sampled_from(arguments or bounds["choices"])
    if group_of(annotation):
        return st.sampled_from(loadable(group_of(annotation))).flatmap(lambda cls: recipes(cls, depth - 1))
    if is_recipe(annotation):
        return recipes(annotation, depth)
    if annotation in (int, float):
        return numbers(annotation, bounds)
    if "pattern" in bounds:
        return st.from_regex(bounds["pattern"], fullmatch=True)
    return {bool: st.booleans(), str: st.text(max_size=20), types.NoneType: st.none()}[annotation]


def loadable(group):
    """The classes of a group that can be imported."""
    found = []
    for name in registry.names(group):
        try:
            found.append(registry.find(group, name))
        except PluginError:
            continue
    return found


@st.composite
def recipes(draw, cls, depth=2):
    """Recipes of a class with some of their keys drawn; those that the component itself refuses are left out."""
    drawn = {}
    for field in fields_of(cls):
        required = field.default is attrs.NOTHING
        if required or (depth > 0 and draw(st.booleans())):
            drawn[field.name] = draw(values(field.type, field.metadata, depth))
    try:
        return cls(**drawn)
    except ConfigError:
        assume(False)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.data())
def test_any_experiment_read_back_is_equal_or_refused_when_written(toys, tmp_path_factory, data):
    experiment = data.draw(recipes(Experiment, 3))
    path = tmp_path_factory.getbasetemp() / "written.toml"
    try:
        path.write_text(dumps(experiment), encoding="utf-8")
    except ConfigError as refused:
        complaint = str(refused)
    else:
        assert Experiment.load(path) == experiment
        return
    assert "None cannot be written" in complaint


def compose(toys, **keys):
    """An experiment of small recipes."""
    parts = {
        "data": toys["dots"](),
        "backbone": toys["generator"](),
        "prior": toys["tilted"](),
        "train": toys["plan"](),
    }
    return Experiment(**{"name": "x", **parts, **keys})


def test_a_table_has_the_type_of_every_component_and_leaves_none_out(toys):
    table = to_table(compose(toys))
    assert table["prior"]["sampler"] == {"type": "walk", "steps": 7, "step_size": 0.5}
    assert "rate" not in table["prior"]["energy"]
    assert table["backbone"]["z_dims"] == [4, 8]
    assert "type" not in table["run"]


def test_a_class_registered_nowhere_cannot_be_written(toys):
    registry.unregister("hebm_datasets", "dots")
    with pytest.raises(PluginError, match=r"not registered in hebm_datasets.*hebm\.registry\.register"):
        to_table(compose(toys))


def test_differences_are_the_keys_that_differ_with_both_values(toys):
    other = compose(toys, seed=1, prior=toys["tilted"](sampler=toys["jump"](), base=toys["tilted"]()))
    found = {path: (a, b) for path, a, b in differences(compose(toys), other)}
    assert found["seed"] == (0, 1)
    assert found["prior.sampler.type"] == ("walk", "jump")
    assert found["prior.sampler.step_size"] == (0.5, None)
    assert found["prior.base.type"] == (None, "tilted")
    assert differences(other, other) == []


def test_a_none_that_toml_cannot_say_is_refused_when_written_not_lost(toys):
    plan = toys["plan"]()
    assert plan.backbone.limit is not None
    unlimited = attrs.evolve(plan, backbone=attrs.evolve(plan.backbone, limit=None))
    with pytest.raises(ConfigError, match=r"train\.backbone\.limit: None cannot be written"):
        dumps(compose(toys, train=unlimited))
