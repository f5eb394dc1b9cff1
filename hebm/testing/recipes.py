"""What every recipe promises, whatever its group. Every check is called with a recipe."""

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
from hebm.testing.promises import ConformanceError, promise


def check_recipe_class(recipe: Any) -> None:
    """Its class is made by `hebm.config.recipes.recipe`, of a registry group, with fields that TOML can hold."""
    cls = type(recipe)
    promise(is_recipe(cls), "a class decorated with @recipe", cls.__name__, "put @recipe above the class")
    group = getattr(cls, "group", None)
    fix = "derive it from PriorRecipe, EnergyRecipe, … of hebm.interfaces"
    promise(group in GROUPS and isinstance(recipe, interface(str(group))), "an interface", str(group), fix)
    promise(unfit_field(cls) is None, "fields that TOML can hold", str(unfit_field(cls)), "change the annotation")


def check_frozen(recipe: Any) -> None:
    """No field can be set."""
    for field in fields_of(type(recipe)):
        try:
            setattr(recipe, field.name, getattr(recipe, field.name))
        except attrs.exceptions.FrozenInstanceError:
            continue
        promise(False, "a frozen class", f"{field.name} was set", "use @recipe, not @attrs.define")


def check_value(recipe: Any) -> None:
    """It compares and hashes by value."""
    twin = attrs.evolve(recipe)
    fix = "keep fields comparable (numbers, strings, tuples, recipes) and leave __eq__ alone"
    promise(recipe == twin, "equal to a recipe with the same fields", "unequal", fix)
    promise(hash(recipe) == hash(twin), "equal recipes hash equal", "other hashes", fix)


def check_documented(recipe: Any) -> None:
    """The class has a docstring, every field a `doc`."""
    cls = type(recipe)
    promise(bool((cls.__doc__ or "").strip()), "a docstring", "none", "say the formula and the paper")
    bare = [field.name for field in fields_of(cls) if not str(field.metadata.get("doc", "")).strip()]
    promise(not bare, "every field documented", f"not: {', '.join(bare)}", 'option(default, doc="...")')


def check_round_trip(recipe: Any) -> None:
    """Written to TOML and read back, it is equal."""
    kind = interface(type(recipe).group)
    holder: type[Any] = make_recipe(
        type("Holder", (), {"__annotations__": {"subject": kind}, "subject": option(doc="the recipe under test")})
    )
    try:
        text = dumps(holder(subject=recipe))
        read: Any = structure(holder, Document("a written recipe", text, table={"subject": to_table(recipe)}))
    except HebmError as error:
        fix = "declare an entry point for it, or hebm.registry.register(group, name, cls) in the test"
        raise ConformanceError(f"promised: it goes to TOML and back\n    seen: {error}\n    fix: {fix}") from error
    promise(read.subject == recipe, "equal after TOML", repr(read.subject), "no derived fields, no init=False values")
