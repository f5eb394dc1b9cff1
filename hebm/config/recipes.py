"""Recipes: frozen attrs classes whose fields are TOML keys, with the same validation from a file and from Python."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, TypeVar, cast, dataclass_transform

import attrs

from hebm.config.values import check, is_union, is_variadic, show
from hebm.errors import ConfigError, PluginError
from hebm.html import html_table
from hebm.suggest import did_you_mean

T = TypeVar("T")

_MARK = "__hebm_recipe__"
_LIVE = "live"
_LEAVES = (bool, int, float, str)


def option(
    default: Any = attrs.NOTHING,
    *,
    doc: str,
    factory: Callable[[], Any] | None = None,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    choices: tuple[Any, ...] | None = None,
    pattern: str | None = None,
    unit: str | None = None,
    path: bool | Callable[[Any], bool] = False,
    renamed_from: str | tuple[str, ...] = (),
) -> Any:
    """Declare a field of a recipe.

    Arguments:
        default: the value if the key is left out; without a default the key is required.
        doc: the meaning of the key, for `hebm plugins NAME`.
        factory: returns a new default each time, for values that cannot be shared.
        low: the least allowed number; it applies to every element of a tuple.
        above: a number that the value must exceed.
        high: the greatest allowed number.
        choices: the allowed values.
        pattern: a regular expression that the whole string must match; describe in `doc` what it allows.
        unit: the unit of a number, such as "nats".
        path: True if the value names a file or folder, relative to the folder where hebm is started; or a function of
            the recipe that returns this.
        renamed_from: one or several former places of the key. A file that still uses one gives an error with the new
            name. Places are written like file paths relative to the table of the field: "old" was in the same table,
            "../old" in the table around it, "nested/old" in a table inside it, "/evaluate/old" is counted from the top
            of the file.

    Example: see `recipe`.
    """
    bounds = {
        "doc": doc,
        "low": low,
        "above": above,
        "high": high,
        "choices": choices,
        "pattern": pattern,
        "unit": unit,
        "path": path or None,
        "renamed_from": ((renamed_from,) if isinstance(renamed_from, str) else renamed_from) or None,
    }
    metadata = {key: value for key, value in bounds.items() if value is not None}
    if factory is not None:
        return attrs.field(factory=factory, metadata=metadata)
    return attrs.field(default=default, metadata=metadata)


def live(default: Any = None, *, doc: str) -> Any:
    """Declare a field of a recipe that holds a live Python value, such as a tensor.

    A live field is not a TOML key: it is not written, compared or checked, and `fields_of` omits it. The constructor
    also accepts it by position. A recipe that is read from a file has the default. To distinguish such recipes in
    files, add an option with a fingerprint of the live values.

    Arguments:
        default: the value if it is not passed.
        doc: the meaning of the field.

    Example:
        >>> import hebm
        >>> @hebm.recipe
        ... class InMemory:
        ...     images: object = live(doc="the images, (N, C, H, W)")
        ...     fingerprint: str = option("", doc="SHA-256 of the images")
        >>> InMemory(images=[0, 1], fingerprint="ab") == InMemory(images=None, fingerprint="ab")
        True
    """
    return attrs.field(default=default, eq=False, repr=False, metadata={"doc": doc, _LIVE: True})


def _validate(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    owner = type(instance)
    field = next(field for field in fields_of(owner) if field.name == attribute.name)
    complaint = check(value, field)
    if complaint:
        raise ConfigError(f"{owner.__name__}.{attribute.name}: {_not_a_recipe(value, field, owner) or complaint}")


def _not_a_recipe(value: Any, field: attrs.Attribute[Any], owner: type) -> str | None:
    """Return a message, for users of Python, if a value is not the expected recipe; else None."""
    annotation, arguments = field.type, typing.get_args(field.type)
    if typing.get_origin(annotation) is tuple and isinstance(value, tuple) and is_variadic(arguments):
        annotation = arguments[0]
        value = next((item for item in value if not isinstance(item, _recipe_class(annotation) or object)), None)
    wanted = _recipe_class(annotation)
    if wanted is None or value is None or isinstance(value, wanted):
        return None
    if isinstance(value, type):
        return f"expected a recipe, got the class {value.__name__}; make one: {value.__name__}(…)"
    group = group_of(wanted)
    if group is None:
        return f"expected {wanted.__name__}(…), got {show(value)}; use {owner.__name__}.{wanted.__name__}(…)"
    from hebm.registry import declared  # imported here, since it imports recipes

    found = declared(group).get(value, ()) if isinstance(value, str) else ()
    example = (
        f"hebm.{found[0].attr}()" if found else f"one of the classes that `hebm plugins --group {group[5:]}` lists"
    )
    return f"expected a recipe of the group {group}, got {show(value)}; use {example}"


def _recipe_class(annotation: Any) -> Any:
    """Return the recipe class of an annotation, or None."""
    classes = typing.get_args(annotation) if is_union(annotation) else (annotation,)
    return next((cls for cls in classes if group_of(cls) or is_recipe(cls)), None)


def _with_validators(_: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    validated = []
    for field in fields:
        if _LIVE in field.metadata:
            validated.append(field.evolve(kw_only=False))
            continue
        own = field.validator
        both = _validate if own is None or own is _validate else attrs.validators.and_(_validate, own)
        validated.append(field.evolve(validator=both))
    return validated


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(attrs.field,))
def recipe(cls: type[T]) -> type[T]:
    """Make a class a recipe: frozen, keyword-only, compared by value, with every field checked against its annotation.

    Declare fields by `option`, or by `live` for values that no file can hold. An option may be bool, int, float, str, a
    `Literal`, a tuple or union of these, another recipe (annotated by its abstract class), or a settings class (made by
    `recipe` but not registered, so that its table has no `type`). A settings class is also an attribute of the recipe,
    under its name: `hebm.MultiStage.Contrast` makes the value of `hebm.MultiStage(contrast=…)`.

    The constructor raises `ConfigError` for a wrong type or a value out of range. It coerces nothing.

    Example:
        >>> import hebm
        >>> @hebm.recipe
        ... class Blur:
        ...     sigma: float = hebm.option(1.0, doc="width of the kernel", above=0, unit="pixels")
        >>> Blur(sigma=2.0)
        Blur(sigma=2.0)
        >>> Blur(sigma=-1.0)
        Traceback (most recent call last):
        hebm.errors.ConfigError: Blur.sigma: must be more than 0, got -1.0
    """
    made: Any = attrs.define(cls, frozen=True, kw_only=True, slots=False, field_transformer=_with_validators)
    setattr(made, _MARK, True)
    made._repr_html_ = _html
    made.__init__ = _strict(made)
    made.__doc__ = _with_keys(made)
    with suppress(PluginError):  # an annotation that cannot be resolved is reported where the recipe is used
        _add_tables(made)
    return cast(type[T], made)


def _add_tables(cls: Any) -> None:
    """Give a recipe the settings class of each field as an attribute, unless it has one of that name."""
    for field in fields_of(cls):
        table = table_of(field.type)
        if table is not None and not hasattr(cls, table.__name__):
            setattr(cls, table.__name__, table)


def _strict(cls: Any) -> Callable[..., None]:
    """Return the constructor of a recipe, which reports a mistyped key with a suggestion."""
    init, known = cls.__init__, [field.name for field in attrs.fields(cls) if field.init]

    @functools.wraps(init)
    def checked(self: Any, *values: Any, **options: Any) -> None:
        unknown = [name for name in options if name not in known]
        if unknown:
            near = did_you_mean(unknown[0], known)
            raise ConfigError(f"{cls.__name__}: unknown key {unknown[0]!r}{near} (keys: {', '.join(known)})")
        init(self, *values, **options)

    return checked


def _with_keys(cls: Any) -> str | None:
    """Return the docstring of a recipe with the meaning of its keys added, unless it already has arguments."""
    text = inspect.getdoc(cls)
    own = vars(cls).get("__doc__")
    fields = [field for field in attrs.fields(cls) if field.init and field.metadata.get("doc")]
    if not own or not text or not fields or "Arguments:" in text:
        return text
    return text + "\n\nArguments:\n" + "\n".join(f"    {field.name}: {_meaning(field)}" for field in fields)


def _meaning(field: attrs.Attribute[Any]) -> str:
    plain = field.default is not attrs.NOTHING and not isinstance(field.default, attrs.Factory)  # type: ignore[arg-type]
    return f"{field.metadata['doc']}" + (f" (default: {field.default!r})" if plain else "")


def _html(recipe: Any) -> str:
    """Show a recipe in a notebook, with a row for each key and dotted keys for nested recipes."""
    return html_table(type(recipe).__name__, _rows(recipe), ("key", "value", "meaning"))


def _rows(recipe: Any, prefix: str = "") -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    for field in fields_of(type(recipe)):
        value, doc = getattr(recipe, field.name), field.metadata.get("doc", "")
        nested = is_recipe(type(value))
        rows.append((prefix + field.name, type(value).__name__ if nested else repr(value), doc))
        rows += _rows(value, f"{prefix}{field.name}.") if nested else []
    return rows


def is_recipe(cls: Any) -> bool:
    """Return whether this class itself, not only a base class, was made by `recipe`."""
    return isinstance(cls, type) and _MARK in vars(cls)


def table_of(annotation: Any) -> type | None:
    """Return the settings class that an annotation names, whose keys are a table inside the recipe's; else None."""
    members = [annotation, *typing.get_args(annotation)]
    return next((member for member in members if is_recipe(member) and not group_of(member)), None)


def group_of(annotation: Any) -> str | None:
    """Return the registry group for an annotation such as `EnergyRecipe`; None for anything else."""
    group = getattr(annotation, "group", None) if isinstance(annotation, type) else None
    return group if isinstance(group, str) else None


def fields_of(cls: type) -> tuple[attrs.Attribute[Any], ...]:
    """Return the fields of a recipe that are TOML keys, with their types resolved.

    Raises `PluginError` if an annotation uses a name that its module does not import.
    """
    try:
        attrs.resolve_types(cls)
    except (NameError, AttributeError, TypeError, SyntaxError) as error:
        raise PluginError(
            f"{cls.__module__}.{cls.__qualname__}: an annotation cannot be resolved ({error}); import the names used "
            "in a recipe's annotations at run time, not under TYPE_CHECKING"
        ) from error
    return tuple(field for field in attrs.fields(cls) if field.init and _LIVE not in field.metadata)


def live_fields(cls: type) -> tuple[attrs.Attribute[Any], ...]:
    """Return the fields of a recipe that hold live Python values."""
    return tuple(field for field in attrs.fields(cls) if _LIVE in field.metadata) if attrs.has(cls) else ()


def default_of(field: attrs.Attribute[Any]) -> Any:
    """Return the default of a field; None if it is required."""
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        return field.default.factory()  # type: ignore[union-attr]
    return None if field.default is attrs.NOTHING else field.default


def unfit_field(cls: type) -> str | None:
    """Return a message about the first field that cannot be stored as a TOML key, or None."""
    names = {field.name for field in fields_of(cls)}
    for field in fields_of(cls):
        if field.name == "type" or field.name.startswith("_"):
            return f"a field may not have the name {field.name!r}"
        if not _in_toml(field.type):
            return f"field {field.name!r} has the type {field.type}, which no TOML key can hold"
        if types.NoneType in typing.get_args(field.type) and field.default is not None:
            return f"field {field.name!r} may be None, which TOML writes as a key left out; its default must be None"
        if names.intersection(field.metadata.get("renamed_from", ())):
            return f"field {field.name!r} was renamed from a key that is still a field"
    return None


def _in_toml(annotation: Any) -> bool:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if is_union(annotation):
        return all(_in_toml(argument) for argument in arguments if argument is not types.NoneType)
    if origin is Literal:
        return all(isinstance(argument, (str, int)) for argument in arguments)
    if origin is tuple:
        return all(
            _in_toml(argument) for argument in (arguments[:1] if is_variadic(arguments) else arguments)
        ) and not (any(types.NoneType in typing.get_args(argument) for argument in arguments))
    return annotation in _LEAVES or group_of(annotation) is not None or is_recipe(annotation)
