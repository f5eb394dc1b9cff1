"""Checks of recipes of every group. Every check is called with a recipe."""

from __future__ import annotations

from typing import Any

import attrs

from hebm.config.document import Document
from hebm.config.recipes import fields_of, is_recipe, option, unfit_field
from hebm.config.recipes import recipe as make_recipe
from hebm.config.structure import structure
from hebm.config.writing import dumps, to_table
from hebm.errors import HebmError
from hebm.registry import GROUPS, interface
from hebm.testing.promises import expect, failure


def check_recipe_class(recipe: Any) -> None:
    """Check that the class is made by `@recipe`, belongs to a registry group, and has fields that TOML can hold."""
    cls = type(recipe)
    expect(is_recipe(cls), "a class decorated with @recipe", f"{cls.__name__} is not", "put @recipe above the class")
    group = getattr(cls, "group", None)
    fix = "derive the class from the interface of its group, such as hebm.interfaces.PriorRecipe"
    fits = group in GROUPS and isinstance(recipe, interface(str(group)))
    expect(fits, "a subclass of a group's interface", f"group = {group!r}", fix)
    expect(
        unfit_field(cls) is None,
        "fields that TOML can hold",
        str(unfit_field(cls)),
        "change the annotation of the field",
    )


def check_frozen(recipe: Any) -> None:
    """Check that no field can be set."""
    for field in fields_of(type(recipe)):
        try:
            setattr(recipe, field.name, getattr(recipe, field.name))
        except attrs.exceptions.FrozenInstanceError:
            continue
        expect(False, "a frozen class", f"its field {field.name} can be set", "use @recipe instead of @attrs.define")


def check_value(recipe: Any) -> None:
    """Check that recipes with equal fields are equal and have equal hashes."""
    twin = attrs.evolve(recipe)
    fix = "use comparable field values (numbers, strings, tuples, recipes), and do not override __eq__"
    expect(recipe == twin, "recipes with equal fields are equal", "they are not equal", fix)
    expect(hash(recipe) == hash(twin), "equal recipes have equal hashes", "different hashes", fix)


def check_documented(recipe: Any) -> None:
    """Check that the class has a docstring and every field a `doc`."""
    cls = type(recipe)
    expect(
        bool((cls.__doc__ or "").strip()),
        f"a docstring of {cls.__name__}",
        "none",
        "write the formula and name the paper",
    )
    bare = [field.name for field in fields_of(cls) if not str(field.metadata.get("doc", "")).strip()]
    expect(not bare, "a description of every field", f"none for {', '.join(bare)}", 'option(default, doc="…")')


def check_round_trip(recipe: Any) -> None:
    """Check that a recipe written to TOML and read again is equal."""
    kind = interface(type(recipe).group)
    holder: type[Any] = make_recipe(
        type("Holder", (), {"__annotations__": {"subject": kind}, "subject": option(doc="the recipe under test")})
    )
    try:
        text = dumps(holder(subject=recipe))
        read: Any = structure(holder, Document("a written recipe", text, table={"subject": to_table(recipe)}))
    except HebmError as error:
        fix = "declare an entry point for the class, or call hebm.registry.register(group, name, cls) in the test"
        raise failure("the recipe can be written to TOML and read again", str(error), fix) from error
    expect(
        read.subject == recipe,
        "an equal recipe, written to TOML and read",
        repr(read.subject),
        "use no derived fields and no init=False",
    )
