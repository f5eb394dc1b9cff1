"""Describe the keys of a component for `hebm plugins NAME`, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from hebm.config.recipes import default_of, fields_of, table_of
from hebm.config.values import check, describe
from hebm.distributions import shield
from hebm.errors import HebmError
from hebm.outlines import Unreadable

_BOUNDS = {"low": "≥ {}", "above": "> {}", "high": "≤ {}", "unit": "in {}"}


@attrs.frozen(eq=False)
class ComponentKey:
    """A key of a component.

    Arguments:
        name: the key, with dots if it is in a nested table.
        field: the field of the recipe.
        base: the default recipe of the key's table; None for the class's own defaults.
        table: True if the value is a table, whose keys follow.
    """

    name: str
    field: attrs.Attribute[Any]
    base: Any
    table: bool

    @property
    def type(self) -> str:
        """The allowed values, in words for users."""
        choices = self.field.metadata.get("choices")
        return f"one of {', '.join(map(repr, choices))}" if choices else describe(self.field.type)

    @property
    def doc(self) -> str:
        """The meaning of the key."""
        return str(self.field.metadata.get("doc", ""))

    @property
    def required(self) -> bool:
        """True if a file must set the key."""
        return self.field.default is attrs.NOTHING and self.base is None

    def default(self) -> Any:
        """Return the default; None if the key is optional without a default, or required.

        Raises `HebmError` for a default that cannot be made, such as a broken plugin.
        """
        with shield("it cannot be made"):
            return default_of(self.field) if self.base is None else getattr(self.base, self.field.name)

    @property
    def limits(self) -> list[str]:
        """The bounds and the unit of a number, in words."""
        return [form.format(self.field.metadata[key]) for key, form in _BOUNDS.items() if key in self.field.metadata]

    def as_text(self) -> str:
        """Return a description on one line."""
        about = ", ".join([self.type, *self.limits]) + ("" if self.table else f"; {self._default_as_text()}")
        return f"{about}. {self.doc}".rstrip()

    def _default_as_text(self) -> str:
        from hebm.config.writing import inline  # imported here: a listing needs no TOML

        if self.required:
            return "required"
        try:
            value = self.default()
            return "optional" if value is None else f"default {inline(value)}"
        except HebmError as error:
            return f"default unavailable ({error})"

    def to_json(self) -> dict[str, Any]:
        """Return name, type, required, default, doc, and its bounds: low, above, high, unit, choices."""
        from hebm.config.writing import plain

        found: dict[str, Any] = {"name": self.name, "type": self.type, "required": self.required, "doc": self.doc}
        try:
            found["default"] = plain(self.default())
        except HebmError as error:
            found |= {"default": None, "default_error": str(error)}
        bounds = (*_BOUNDS, "choices")
        return {**found, **{key: self.field.metadata[key] for key in bounds if key in self.field.metadata}}


def component_keys(cls: type, base: Any = None, prefix: str = "") -> Iterator[ComponentKey]:
    """Yield each key of a recipe class. The keys of a nested table follow, with dots and their defaults there."""
    for field in fields_of(cls):
        settings = table_of(field.type)
        key = ComponentKey(prefix + field.name, field, base, settings is not None)
        yield key
        if settings is not None:
            yield from component_keys(settings, key.default(), f"{key.name}.")


def require_readable(outline: type) -> None:
    """Raise `Unreadable` if a default of an outline (`hebm.outlines`) cannot be made, or depends on a library."""
    try:
        keys = [(key, key.default()) for key in component_keys(outline)]
    except HebmError as error:
        raise Unreadable(str(error)) from error
    for key, value in keys:
        if value is not None and check(value, key.field):
            raise Unreadable(f"the default of {key.name} depends on a library")
