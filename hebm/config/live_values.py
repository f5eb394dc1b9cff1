"""Copy live Python values (`hebm.config.recipes.live`) from one recipe to another that was read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from hebm.config.recipes import fields_of, is_recipe, live_fields
from hebm.errors import ConfigError

E = TypeVar("E")
T = TypeVar("T")


def with_live(recipe: T, given: Any) -> T:
    """Return a recipe with the live values of another recipe of the same class; keys keep their values.

    Nested recipes get the live values of the recipes in the same place. If the classes differ, nothing is copied. The
    recipe's checks run again, so a fingerprint that does not match the values raises an error.

    Arguments:
        recipe: a recipe without live values, usually read from a file, such as an `Experiment`.
        given: the recipe with the live values.

    Raises `HebmError` if the values do not fit the keys.
    """
    if type(recipe) is not type(given) or not is_recipe(type(recipe)):
        return recipe
    live = {field.name: getattr(given, field.name) for field in live_fields(type(recipe))}
    changes = live if any(value is not None for value in live.values()) else {}
    for field in fields_of(type(recipe)):
        before = getattr(recipe, field.name)
        after = with_live(before, getattr(given, field.name))
        changes |= {} if after is before else {field.name: after}
    return attrs.evolve(recipe, **changes) if changes else recipe  # type: ignore[misc]


def given_live(experiment: E, given: Mapping[str, Any]) -> E:
    """Return an experiment that was read from a file, with the live values of recipes given in Python.

    Arguments:
        experiment: the experiment.
        given: a recipe by the name of its table, such as {"data": hebm.Tensors(train)}.

    Raises `ConfigError` for a recipe of another class than the experiment's, or without live values, and errors of the
    recipe if the values do not fit its keys.
    """
    changes = {}
    for name, recipe in given.items():
        own = getattr(experiment, name)
        if not live_fields(type(own)):
            raise ConfigError(f"{name}: the {type(own).__name__} of this run has no Python values; leave {name} out")
        if type(recipe) is not type(own):
            ours, theirs = type(own).__name__, type(recipe).__name__
            raise ConfigError(
                f"{name}: this run was made with {ours}, not {theirs}; pass the hebm.{ours}(…) of the run"
            )
        changes[name] = with_live(own, recipe)
    return attrs.evolve(experiment, **changes) if changes else experiment  # type: ignore[misc]


def with_recipe(recipe: T, path: tuple[str, ...], given: Any) -> T:
    """Return a recipe with the live values of a recipe that was given for a key inside it.

    Arguments:
        recipe: the recipe read from the table that contains the given recipe.
        path: the key.
        given: the value of the key; values other than recipes change nothing.
    """
    if not is_recipe(type(given)):
        return recipe
    if not path:
        return with_live(recipe, given)
    inner = getattr(recipe, path[0])
    after = with_recipe(inner, path[1:], given)
    return recipe if after is inner else attrs.evolve(recipe, **{path[0]: after})  # type: ignore[misc]
