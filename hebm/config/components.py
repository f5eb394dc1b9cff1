"""List the components in a recipe, at any depth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from hebm import registry
from hebm.config.recipes import fields_of, group_of


@attrs.frozen(eq=False)
class Component:
    """A registered component in a recipe.

    Arguments:
        group: the group in the registry, such as "hebm_priors".
        name: the registered name.
        recipe: its recipe.
        depth: the number of components that it is nested in.
    """

    group: str
    name: str
    recipe: Any
    depth: int


def components(recipe: Any, depth: int = 0) -> Iterator[Component]:
    """Yield the recipe itself, if it is a component, then the components in its fields."""
    group = group_of(type(recipe))
    if group:
        yield Component(group, registry.name_of(type(recipe)), recipe, depth)
    for field in fields_of(type(recipe)):
        value = getattr(recipe, field.name)
        for part in value if isinstance(value, tuple) else (value,):
            if attrs.has(type(part)):
                yield from components(part, depth + bool(group))


def type_of(table: Mapping[str, Any], key: str) -> str:
    """Return the `type` of a table of a configuration, such as "digits" for `data`; "–" if there is none."""
    value = table.get(key)
    return str(value.get("type", "–")) if isinstance(value, Mapping) else str(value or "–")


def distributions(recipe: Any) -> set[str]:
    """Return the names of the installed distributions that provide a recipe's components, at any depth."""
    found = (registry.origin(component.group, component.name).distribution for component in components(recipe))
    return {distribution for distribution in found if distribution}
