"""Carry live Python values (`hebm.config.recipes.live`) from one recipe to another that was read from a file."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs

from hebm.config.recipes import fields_of, is_recipe, live_fields

T = TypeVar("T")


def with_live(recipe: T, given: Any) -> T:
    """Return a recipe with the live values of another one of the same class; keys keep their values.

    Recipes inside recipes get the live values of those in the same place. Where the classes differ, nothing is
    carried. The recipe's own checks run again: a fingerprint that does not belong to the values is an error.

    Arguments:
        recipe: usually read from a file, and so without live values; an `Experiment`, say.
        given: has the live values.

    Raises `HebmError` where the values do not fit the keys.
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


def with_recipe(recipe: T, path: tuple[str, ...], given: Any) -> T:
    """Return a recipe with the live values of another one that was given for a key inside it.

    Arguments:
        recipe: read from a table in which the given recipe was written.
        path: the key.
        given: the value of the key; anything but a recipe changes nothing.
    """
    if not is_recipe(type(given)):
        return recipe
    if not path:
        return with_live(recipe, given)
    inner = getattr(recipe, path[0])
    after = with_recipe(inner, path[1:], given)
    return recipe if after is inner else attrs.evolve(recipe, **{path[0]: after})  # type: ignore[misc]
