"""Make recipes from tables strictly, and report all problems at once.

A nested table without `type`, or with the `type` of its default, changes that default. A bare name stands for a table
with only `type`. Lists become tuples. Nothing is coerced.
"""

from __future__ import annotations

import types
import typing
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import attrs

from hebm import registry
from hebm.config.document import Document, dotted
from hebm.config.overrides import Path
from hebm.config.recipes import default_of, fields_of, group_of, is_recipe, live_fields
from hebm.config.renamed import Filled, Problem, explained
from hebm.config.values import describe, fits, is_union, is_variadic, out_of_bounds, show
from hebm.errors import ConfigError, ConfigWarning, HebmError
from hebm.suggest import did_you_mean

T = TypeVar("T")

INVALID: Any = object()
"""The result for a value whose problem is already recorded."""


def structure(cls: type[T], document: Document) -> T:
    """Return the recipe that a document describes.

    Where an override changed the `type` of a table, a `ConfigWarning` names the keys of the old type that remain.

    Raises `ConfigError` with all problems and their places.
    """
    reading = Reading(document)
    made = reading.fill(cls, document.table, ())
    reading.require_none()
    reading.warn()
    return typing.cast(T, made)


def structure_components(interface: Any, tables: Mapping[str, Any], document: Document) -> dict[str, Any]:
    """Return a component for each entry of a table of tables.

    Arguments:
        interface: the class of the components, such as `MetricRecipe`.
        tables: the tables of the components by name, each with its `type`.
        document: the file or command line of the tables.

    Raises `ConfigError` with all problems and their places.
    """
    reading = Reading(document)
    made = {name: reading.value(interface, table, (name,)) for name, table in tables.items()}
    reading.require_none()
    return made


class Reading:
    """The state of reading one table: problems and tables found so far.

    Arguments:
        document: the file or command line of the table.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.filled: list[Filled] = []
        self.warnings: list[str] = []

    def problem(self, path: Path, text: str, kind: Literal["value", "unknown", "missing"] = "value") -> Any:
        """Record a problem and return INVALID."""
        self.problems.append(Problem(path, text, kind))
        return INVALID

    def warn(self) -> None:
        """Issue each recorded text as a `ConfigWarning` at the caller of `structure`."""
        for text in self.warnings:
            warnings.warn(text, ConfigWarning, stacklevel=3)

    def require_none(self) -> None:
        """Raise `ConfigError` with all recorded problems and their places in the document, if there are any."""
        if not self.problems:
            return
        document = self.document
        problems = explained(self.problems, self.filled, document.table)
        lines = [": ".join(filter(None, (document.place(p.path), dotted(p.path), p.text))) for p in problems]
        if len(lines) > 1:
            lines = [f"{document.name}: {len(lines)} problems", *lines]
        raise ConfigError("\n  ".join(lines))

    def value(self, annotation: Any, raw: Any, path: Path, default: Callable[[], Any] = lambda: None) -> Any:
        """Return `raw` converted to the annotated type; if it does not fit, record problems and return INVALID."""
        if is_union(annotation):
            return self._union(annotation, raw, path, default)
        if group_of(annotation):
            return self._component(annotation, raw, path, default)
        if is_recipe(annotation):
            return self._settings(annotation, raw, path, default)
        if typing.get_origin(annotation) is tuple and isinstance(raw, list):
            return self._tuple(annotation, raw, path)
        if annotation is str and not isinstance(raw, (str, dict, list)):
            raw = raw if (written := self.document.written(path)) is None else written
        return raw if fits(raw, annotation) else self._unexpected(annotation, raw, path)

    def _unexpected(self, annotation: Any, raw: Any, path: Path) -> Any:
        return self.problem(path, f"expected {describe(annotation)}, got {show(raw)}")

    def _union(self, annotation: Any, raw: Any, path: Path, default: Callable[[], Any]) -> Any:
        members = [member for member in typing.get_args(annotation) if member is not types.NoneType]
        plausible = members if len(members) == 1 else [member for member in members if _plausible(member, raw)]
        if len(plausible) == 1:
            return self.value(plausible[0], raw, path, default)
        for member in plausible:
            attempt = Reading(self.document)
            made = attempt.value(member, raw, path, default)
            if not attempt.problems:
                self.filled += attempt.filled
                self.warnings += attempt.warnings
                return made
        return self._unexpected(annotation, raw, path)

    def _tuple(self, annotation: Any, raw: list[Any], path: Path) -> Any:
        arguments = typing.get_args(annotation)
        if not is_variadic(arguments) and len(raw) != len(arguments):
            return self._unexpected(annotation, raw, path)
        kinds = arguments[:1] * len(raw) if is_variadic(arguments) else arguments
        items = [self.value(kind, item, (*path, i)) for i, (kind, item) in enumerate(zip(kinds, raw, strict=True))]
        return INVALID if any(item is INVALID for item in items) else tuple(items)

    def _settings(self, cls: type, raw: Any, path: Path, default: Callable[[], Any]) -> Any:
        if not isinstance(raw, dict):
            return self._unexpected(cls, raw, path)
        return self._changed(cls, raw, path, default)

    def _component(self, annotation: type, raw: Any, path: Path, default: Callable[[], Any]) -> Any:
        table = {"type": raw} if isinstance(raw, str) else raw
        if not isinstance(table, dict):
            return self._unexpected(annotation, raw, path)
        if "type" in table:
            cls = self._named(annotation, table["type"], path if isinstance(raw, str) else (*path, "type"))
            rest = {key: value for key, value in table.items() if key != "type"}
            return INVALID if cls is INVALID else self._changed(cls, rest, path, default)
        return self._untyped(annotation, table, path, default)

    def _named(self, annotation: type, name: Any, path: Path) -> Any:
        """Return the class registered under a name."""
        group = group_of(annotation)
        if not isinstance(name, str) or group is None:
            return self._unexpected(str, name, path)
        try:
            cls = registry.find(group, name)
        except HebmError as error:
            return self.problem(path, str(error))
        return cls if issubclass(cls, annotation) else self.problem(path, f"{name!r} is not a {annotation.__name__}")

    def _untyped(self, annotation: type, table: dict[str, Any], path: Path, default: Callable[[], Any]) -> Any:
        """Read a table without `type` as changes of the default. Without a default, the `type` is missing."""
        base = self._attempt(path, default)
        if base is INVALID:
            return INVALID
        cls = annotation if base is None and is_recipe(annotation) else type(base)
        if base is None and cls is not annotation:
            names = ", ".join(registry.names(str(group_of(annotation)))) or "none installed"
            return self.problem((*path, "type"), f"missing; expected one of {names}", "missing")
        return self.fill(cls, table, path, base)

    def _changed(self, cls: type, table: dict[str, Any], path: Path, default: Callable[[], Any]) -> Any:
        """Read a table of a known class, as changes of the default if that has the same class."""
        base = self._attempt(path, default)
        if base is INVALID:
            return INVALID
        return self.fill(cls, table, path, base if type(base) is cls else None)

    def fill(self, cls: type, table: dict[str, Any], path: Path, base: Any = None) -> Any:
        """Return a recipe from the keys of its table; other keys come from `base` or from the class's defaults."""
        self.filled.append(Filled(cls, path, base))
        fields = {field.name: field for field in fields_of(cls)}
        for key in table:
            if key not in fields and not self.document.stale((*path, key)):
                self.problem((*path, key), _unknown(cls, key, fields), "unknown")
        given = {key: self._field(fields[key], table[key], (*path, key), base) for key in table if key in fields}
        missing = [] if base is not None else [field for field in fields.values() if _required(field, table)]
        for field in missing:
            doc = field.metadata.get("doc")
            kind = describe(field.type)
            self.problem((*path, field.name), f"missing; expected {kind}" + (f": {doc}" if doc else ""), "missing")
        if missing or any(value is INVALID for value in given.values()):
            return INVALID
        if path in self.document.retyped:
            defaults = {key: _default(fields[key], base) for key in given}
            self._note_kept(cls, path, {key: defaults[key] for key in given if given[key] != defaults[key]})
        return self._attempt(path, lambda: cls(**given) if base is None else attrs.evolve(base, **given))

    def _field(self, field: attrs.Attribute[Any], raw: Any, path: Path, base: Any) -> Any:
        value = self.value(field.type, raw, path, lambda: _default(field, base))
        complaint = None if value is INVALID else out_of_bounds(value, field.metadata)
        return self.problem(path, complaint) if complaint else value

    def _note_kept(self, cls: type, path: Path, defaults: Mapping[str, Any]) -> None:
        """Record a warning about a table's keys that were written for another `type`, with another default.

        Arguments:
            cls: the class of the new type.
            path: the table.
            defaults: the keys whose values differ from the new type's defaults, and these.
        """
        document = self.document
        same = _defaults_of(group_of(cls), document.retyped[path])
        kept = [
            (*path, key)
            for key, default in defaults.items()
            if document.stale((*path, key)) and not (key in same and same[key] == default)
        ]
        if kept:
            listed = ", ".join(f"{dotted(key)} ({document.place(key)})" for key in kept)
            self.warnings.append(
                f"{document.place((*path, 'type'))}: the new type keeps {listed}, written for the old one; "
                "set these, too, if they should differ"
            )

    def _attempt(self, path: Path, make: Callable[[], Any]) -> Any:
        """Call `make`; if a component's check or a look-up fails, record the problem and return INVALID."""
        try:
            return make()
        except (HebmError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            return self.problem(path, str(error) or type(error).__name__)


def _defaults_of(group: str | None, name: str) -> dict[str, Any]:
    """Return the defaults of a registered component; none if no such component can be loaded."""
    try:
        fields = fields_of(registry.find(group, name)) if group and name else ()
    except HebmError:
        return {}
    return {field.name: default_of(field) for field in fields}


def _default(field: attrs.Attribute[Any], base: Any) -> Any:
    return default_of(field) if base is None else getattr(base, field.name)


def _unknown(cls: type, key: str, fields: Mapping[str, Any]) -> str:
    """Return the message about a key that a recipe's class does not have."""
    allowed = f"(allowed: {', '.join(fields) or 'none'})"
    if key in {field.name for field in live_fields(cls)}:
        return f"is a Python value, which no file can hold; pass it in Python, {cls.__name__}({key}=…) {allowed}"
    return f"unknown key{did_you_mean(key, fields)} {allowed}"


def _plausible(member: Any, raw: Any) -> bool:
    """Return whether a value could be of this member of a union, judged by its kind alone."""
    component, table = group_of(member) is not None, is_recipe(member)
    if isinstance(raw, dict):
        return component or table
    if isinstance(raw, list):
        return typing.get_origin(member) is tuple
    return component if isinstance(raw, str) and component else fits(raw, member) or not (component or table)


def _required(field: attrs.Attribute[Any], table: dict[str, Any]) -> bool:
    return field.default is attrs.NOTHING and field.name not in table
