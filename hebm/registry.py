"""Names → recipes: the only file that knows `catalogue`.

A plugin is a distribution that declares entry points in one of `GROUPS`. Listing reads their metadata and imports
nothing; `find` imports only what is asked for. So a broken plugin hurts nobody who does not use it, and a name that
two distributions declare is an error for those who ask for that name. `catalogue` stores what this process has loaded
or registered by hand.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import re
from collections.abc import Callable
from importlib import metadata
from typing import Any, TypeVar, overload

import attrs
import catalogue
import click

from hebm.config.recipe import fields_of, is_recipe, unfit_field
from hebm.errors import PluginError
from hebm.sources import Glance, glance
from hebm.suggest import did_you_mean

T = TypeVar("T")

COMMANDS = "hebm_commands"
GROUPS = {
    "hebm_backbones": "hebm.interfaces:BackboneRecipe",
    "hebm_energies": "hebm.interfaces:EnergyRecipe",
    "hebm_priors": "hebm.interfaces:PriorRecipe",
    "hebm_samplers": "hebm.samplers:Sampler",
    "hebm_datasets": "hebm.data.recipe:DatasetRecipe",
    "hebm_metrics": "hebm.evaluate.metric:MetricRecipe",
    "hebm_schemes": "hebm.training.phases:SchemeRecipe",
    "hebm_formats": "hebm.porting:CheckpointFormat",
    "hebm_analyses": "hebm.analyse.recipe:AnalysisRecipe",
    COMMANDS: "click:Command",
}
"""The interface of each group: components are subclasses of it, commands are instances."""
BLOCK_VARIABLE = "HEBM_BLOCK"
"""Environment variable: distributions to leave out, separated by commas."""


@attrs.frozen
class Origin:
    """Where a name comes from.

    Arguments:
        distribution: the distribution that declares it, None if it was registered by hand.
        version: of the distribution.
        module: of the object.
        attr: its name in the module.
        file, line: where it is defined, as far as known.
    """

    distribution: str | None
    version: str | None
    module: str
    attr: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}" if self.distribution else "registered by hand"

    @property
    def path(self) -> str:
        """`module:attr`, as an entry point spells it."""
        return f"{self.module}:{self.attr}"


@attrs.frozen
class Entry:
    """One line of a listing: a name, who declares it, its first line of documentation, what is wrong with it."""

    name: str
    origins: tuple[Origin, ...]
    summary: str = ""
    error: str | None = None


_STORE = {group: catalogue.Registry((group,)) for group in GROUPS}
_BY_HAND: dict[tuple[str, str], Origin] = {}
_BLOCKED: set[str] = set()


# ---------------------------------------------------------------- what is declared


def names(group: str) -> tuple[str, ...]:
    """The names of a group in alphabetical order, broken and ambiguous ones included. Imports nothing."""
    return tuple(sorted(_declared(group)))


def block(distribution: str) -> None:
    """Leave a distribution's plugins out, in this process."""
    _BLOCKED.add(_normalised(distribution))


def blocked() -> frozenset[str]:
    """The distributions left out, by `block` or by the environment variable `HEBM_BLOCK`."""
    from_environment = os.environ.get(BLOCK_VARIABLE, "").split(",")
    return frozenset(_BLOCKED) | {_normalised(name) for name in from_environment if name.strip()}


def _normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


def _declared(group: str) -> dict[str, tuple[Origin, ...]]:
    """Who declares each name of a group: more than one is an ambiguity."""
    if group not in GROUPS:
        raise PluginError(f"there is no group {group!r}{did_you_mean(group, GROUPS)}; groups: {', '.join(GROUPS)}")
    out = blocked()
    found: dict[str, tuple[Origin, ...]] = {}
    for name, origin in _installed(group):
        if _normalised(origin.distribution or "") not in out and origin not in found.get(name, ()):
            found[name] = (*found.get(name, ()), origin)
    for (owner, name), origin in _BY_HAND.items():
        if owner == group:
            found[name] = (*found.get(name, ()), origin)
    return found


@functools.cache
def _installed(group: str) -> tuple[tuple[str, Origin], ...]:
    """Entry points of a group. A distribution that stands twice on the path (editable installs do) counts once."""
    return tuple((point.name, _origin(point)) for point in metadata.entry_points(group=group))


def _origin(point: metadata.EntryPoint) -> Origin:
    module, _, attr = point.value.partition("[")[0].partition(":")
    try:
        label = (point.dist.name, point.dist.version) if point.dist else ("unknown", "")
    except (KeyError, TypeError, AttributeError, metadata.PackageNotFoundError):  # left over by a failed uninstall
        label = ("a distribution without metadata", "")
    return Origin(*label, module.strip(), attr.strip())


# ---------------------------------------------------------------- what is asked for


def find(group: str, name: str) -> Any:
    """The recipe class (for `hebm_commands` the click command) of a name; imports it if need be.

    Raises `PluginError` if the name is unknown, is declared twice, cannot be imported or is of the wrong kind.
    """
    origin = _only(group, name)
    key = _key(name, origin)
    if key not in _STORE[group]:
        loaded = _import(group, name, origin)
        complaint = _unfit(group, loaded)
        if complaint:
            raise PluginError(f"{_title(group, name)} of {origin} ({origin.path}) is broken: {complaint}")
        _STORE[group].register(key, func=loaded)
    return _STORE[group].get(key)


def by_class_name(name: str) -> Any:
    """The component whose class is called `name`, or None. Raises `PluginError` if several are, or it is broken."""
    claims = [
        (group, registered)
        for group in GROUPS
        if group != COMMANDS
        for registered, origins in _declared(group).items()
        if any(origin.attr == name for origin in origins)
    ]
    if len(claims) > 1:
        where = " and ".join(f"{group} {registered!r}" for group, registered in claims)
        raise PluginError(f"{name!r} is ambiguous: it is {where}; use hebm.registry.find(group, name)")
    return find(*claims[0]) if claims else None


def _title(group: str, name: str) -> str:
    return f"{group} {name!r}"


def _key(name: str, origin: Origin) -> str:
    return f"{name}@{origin.distribution or ''}"


def _only(group: str, name: str) -> Origin:
    if name not in _declared(group):
        _installed.cache_clear()  # it may have been installed since
        importlib.invalidate_caches()
    declared = _declared(group)
    if name not in declared:
        raise PluginError(_unknown(group, name, declared))
    if len(declared[name]) > 1:
        raise PluginError(f"{_title(group, name)} is {_ambiguity(declared[name])}")
    return declared[name][0]


def _unknown(group: str, name: str, declared: dict[str, tuple[Origin, ...]]) -> str:
    available = ", ".join(sorted(declared)) or "none"
    left_out = f"; blocked: {', '.join(sorted(blocked()))}" if blocked() else ""
    return f"{group} has no {name!r}{did_you_mean(name, declared)} (available: {available}{left_out})"


def _ambiguity(origins: tuple[Origin, ...]) -> str:
    claims = " and ".join(f"{origin} ({origin.path})" for origin in origins)
    return f"ambiguous: declared by {claims}; uninstall one of them, or leave one out by {BLOCK_VARIABLE}=DISTRIBUTION"


def _import(group: str, name: str, origin: Origin) -> Any:
    try:
        found: Any = importlib.import_module(origin.module)
        for part in filter(None, origin.attr.split(".")):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # third-party code: its import may raise anything
        hint = ""
        if isinstance(error, ModuleNotFoundError) and error.name:
            hint = f"; install {error.name.partition('.')[0]!r} if it is a dependency"
        cause = f"{type(error).__name__}: {error}".rstrip(": ")
        raise PluginError(
            f"{_title(group, name)} of {origin} ({origin.path}) is broken: it cannot be imported: {cause}{hint}"
        ) from error
    return found


def interface(group: str) -> type:
    """Return the interface of a group of `GROUPS`. Importing one may import torch."""
    module, _, name = GROUPS[group].partition(":")
    found: type = getattr(importlib.import_module(module), name)
    return found


def _unfit(group: str, found: Any) -> str | None:
    """Why an object may not be registered in a group, or None."""
    if group == COMMANDS:
        return None if isinstance(found, click.Command) else "it is not a click command"
    base = interface(group)
    if not isinstance(found, type) or not issubclass(found, base):
        return f"it is not a subclass of {GROUPS[group].replace(':', '.')}"
    if inspect.isabstract(found):
        return f"it leaves abstract: {', '.join(sorted(getattr(found, '__abstractmethods__', ())))}"
    if not is_recipe(found):
        return "it is not decorated with hebm.config.recipe.recipe"
    try:
        return unfit_field(found) or _lacking(base, found)
    except PluginError as error:
        return str(error)


def _lacking(interface: type, found: type) -> str | None:
    """A complaint about attributes that an interface annotates and a class does not have, such as `Sampler.steps`."""
    known = {field.name for field in fields_of(found)}
    annotated = [
        name for name, kind in vars(interface).get("__annotations__", {}).items() if "ClassVar" not in str(kind)
    ]
    absent = [name for name in annotated if name not in known and not hasattr(found, name)]
    return f"it lacks the field {absent[0]!r}" if absent else None


# ---------------------------------------------------------------- what is registered by hand


@overload
def register(group: str, name: str) -> Callable[[T], T]: ...
@overload
def register(group: str, name: str, found: T) -> T: ...
def register(group: str, name: str, found: Any = None) -> Any:
    """Register a class for this process, in a notebook say; usable as a decorator. Registering again replaces it.

    Raises `PluginError` if a distribution declares the name, or the class does not fit the group.

    Example:
        >>> from hebm import MLP, recipe
        >>> @register("hebm_energies", "wide")
        ... @recipe
        ... class Wide(MLP):
        ...     "An MLP of this notebook."
        >>> find("hebm_energies", "wide") is Wide
        True
        >>> unregister("hebm_energies", "wide")
    """
    if found is None:
        return functools.partial(register, group, name)
    installed = [origin for origin in _declared(group).get(name, ()) if origin.distribution]
    if installed:
        raise PluginError(f"{_title(group, name)} is the name of a plugin of {installed[0]}; choose another")
    complaint = _unfit(group, found)
    if complaint:
        raise PluginError(f"{_title(group, name)} cannot be {found!r}: {complaint}")
    body = _body(found)
    origin = Origin(None, None, body.__module__, body.__qualname__, *_where(found))
    _BY_HAND[group, name] = origin
    _STORE[group].register(_key(name, origin), func=found)
    return found


def unregister(group: str, name: str) -> None:
    """Forget a name registered by hand; nothing happens if there is none."""
    _BY_HAND.pop((group, name), None)


# ---------------------------------------------------------------- what is known of a name


def name_of(recipe: Any) -> str:
    """The name under which a recipe, or its class, is registered. Raises `PluginError` if there is none."""
    cls = recipe if isinstance(recipe, type) else type(recipe)
    group = getattr(cls, "group", None)
    declared = _declared(group) if isinstance(group, str) else {}
    direct = [name for name, origins in declared.items() if any(_is_at(cls, origin) for origin in origins)]
    for name in (*direct, *declared):
        if _finds(str(group), name, cls):
            return name
    raise PluginError(
        f"{cls.__module__}.{cls.__qualname__} is registered under no name in {group}; declare an entry point, "
        f'or call hebm.registry.register("{group}", NAME, {cls.__name__})'
    )


def _is_at(cls: type, origin: Origin) -> bool:
    return (origin.module, origin.attr) == (cls.__module__, cls.__qualname__)


def _finds(group: str, name: str, cls: type) -> bool:
    """Whether a name stands for this very class (another may re-export it); a broken name stands for none."""
    try:
        return find(group, name) is cls
    except PluginError:
        return False


def origin(group: str, name: str) -> Origin:
    """Who declares a name, and its file and line, from the object if it is loaded, else from its source.

    Raises `PluginError` if the name is unknown or ambiguous.
    """
    declared = _only(group, name)
    key = _key(name, declared)
    if key in _STORE[group]:
        file, line = _where(_STORE[group].get(key))
        return attrs.evolve(declared, file=file, line=line)
    seen = glance(declared.module, declared.attr)
    return attrs.evolve(declared, file=seen.file, line=seen.line)


def _body(found: Any) -> Any:
    """What has a source: a class itself, or the function that a command calls."""
    return found.callback if isinstance(found, click.Command) else found


def _where(found: Any) -> tuple[str | None, int | None]:
    body = _body(found)
    try:
        return inspect.getsourcefile(body), inspect.getsourcelines(body)[1]
    except (OSError, TypeError):  # typed into an interpreter
        return None, None


def status(group: str, load: bool = False) -> tuple[Entry, ...]:
    """Every name of a group with what is wrong with it.

    Arguments:
        group: one of `GROUPS`.
        load: import each, to be sure; otherwise only what its source plainly shows is noted, and nothing imported.
    """
    return tuple(_entry(group, name, origins, load) for name, origins in sorted(_declared(group).items()))


def _entry(group: str, name: str, origins: tuple[Origin, ...], load: bool) -> Entry:
    if len(origins) > 1:
        return Entry(name, origins, error=_ambiguity(origins))
    by_hand = origins[0].distribution is None
    seen = Glance() if by_hand else glance(origins[0].module, origins[0].attr)
    error = seen.problem
    if load:
        try:
            find(group, name)
        except PluginError as broken:
            error = str(broken)
    return Entry(name, origins, seen.summary, error)
