"""Find components by name. This is the only file that uses `catalogue`.

A plugin is a distribution that declares entry points in one of `GROUPS`. A listing reads their metadata and imports
nothing; `find` imports only the requested component. So a broken plugin affects only runs that use it, and a name that
two distributions declare raises an error only when it is used. `catalogue` stores the components that this process
loaded or registered by hand.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, overload

import attrs
import click

from hebm.blocking import BLOCK_VARIABLE, Block, from_environment, parsed, require_installed
from hebm.distributions import hide_unreadable, normalised, unreadable_note
from hebm.entry_points import (
    COMMANDS,
    GROUPS,
    INTERFACE,
    Origin,
    installed,
    require_group,
    reread,
    short_group,
)
from hebm.errors import PluginError
from hebm.loading import interface, load_component, read_component, unfit
from hebm.outlines import Outlines
from hebm.sources import Glance, glance
from hebm.suggest import did_you_mean

__all__ = [
    "BLOCK_VARIABLE",
    "COMMANDS",
    "GROUPS",
    "INTERFACE",
    "Entry",
    "Origin",
    "block",
    "blocked",
    "declared",
    "find",
    "interface",
    "name_of",
    "names",
    "origin",
    "reading",
    "register",
    "status",
    "unregister",
]

T = TypeVar("T")


@attrs.frozen
class Entry:
    """One line of a listing: a name, the distributions that declare it, its summary, and its error, if any."""

    name: str
    origins: tuple[Origin, ...]
    summary: str = ""
    error: str | None = None


_BY_HAND: dict[tuple[str, str], Origin] = {}
_BLOCKED: set[Block] = set()
_OUTLINES: ContextVar[Outlines | None] = ContextVar("outlines", default=None)


# ---------------------------------------------------------------- declared names


def names(group: str) -> tuple[str, ...]:
    """Return the names of a group in alphabetical order, including broken and ambiguous ones. It imports nothing."""
    return tuple(sorted(declared(group)))


def block(what: str) -> None:
    """Block plugins in this process: `DISTRIBUTION`, `GROUP:NAME` or `DISTRIBUTION/GROUP:NAME`.

    Raises `PluginError` if the text is malformed, or if it matches nothing that is installed.
    """
    require_installed(found := parsed(what))
    _BLOCKED.add(found)


def blocked() -> tuple[str, ...]:
    """Return what `block` and the environment variable `HEBM_BLOCK` block, in alphabetical order."""
    return tuple(sorted(map(str, _BLOCKED | from_environment())))


def declared(group: str) -> dict[str, tuple[Origin, ...]]:
    """Return the origins of each name of a group. A name with several origins is ambiguous."""
    out = _BLOCKED | from_environment()
    found: dict[str, tuple[Origin, ...]] = {}
    for name, origin in installed(require_group(group)):
        left_out = any(one.covers(group, name, normalised(origin.distribution or "")) for one in out)
        if not left_out and origin not in found.get(name, ()):  # an editable install may appear twice
            found[name] = (*found.get(name, ()), origin)
    for (owner, name), origin in _BY_HAND.items():
        if owner == group:
            found[name] = (*found.get(name, ()), origin)
    return found


# ---------------------------------------------------------------- finding components


def find(group: str, name: str) -> Any:
    """Return the recipe class of a name (a click command in `hebm_commands`), and import it if necessary.

    Raises `PluginError` if the name is unknown or declared twice, or if the component was written for another
    interface, cannot be imported or is of the wrong kind. Inside `reading` it raises `Unreadable` instead for a
    component whose source does not suffice.
    """
    origin, outlines = _only(group, name), _OUTLINES.get()
    store, key = _store(group), _key(name, origin)
    if key not in store:
        if outlines is not None:
            return read_component(group, origin, outlines)
        store.register(key, func=load_component(group, origin, _title(group, name)))
    return store.get(key)


@contextmanager
def reading() -> Iterator[None]:
    """Make `find` return outlines: classes with the keys of components, read from their source (`hebm.outlines`).

    They are for describing components. Nothing of a component is imported, so an error at import is not found.
    """
    packages = {origin.module.partition(".")[0] for group in GROUPS for _, origin in installed(group)}
    token = _OUTLINES.set(Outlines(packages))
    try:
        yield
    finally:
        _OUTLINES.reset(token)


@functools.cache
def _store(group: str) -> Any:
    """Return the `catalogue.Registry` of a group; `catalogue` lists all entry points when it is imported."""
    hide_unreadable()
    return importlib.import_module("catalogue").Registry((group,))


def _key(name: str, origin: Origin) -> str:
    return f"{name}@{origin.distribution or ''}"


def _title(group: str, name: str) -> str:
    return f"{group} {name!r}"


def _only(group: str, name: str) -> Origin:
    if name not in declared(group):
        reread()  # it may have been installed after the first reading
    found = declared(group)
    if name not in found:
        raise PluginError(_unknown(group, name, found))
    if len(found[name]) > 1:
        raise PluginError(f"{_title(group, name)} is {_ambiguity(group, name, found[name])}")
    return found[name][0]


def _unknown(group: str, name: str, known: dict[str, tuple[Origin, ...]]) -> str:
    available = ", ".join(sorted(known)) or "none"
    left_out = f"; blocked: {', '.join(blocked())}" if blocked() else ""
    return f"{group} has no {name!r}{did_you_mean(name, known)} (available: {available}{left_out}){unreadable_note()}"


def _ambiguity(group: str, name: str, origins: tuple[Origin, ...]) -> str:
    claims = " and ".join(f"{origin} ({origin.path})" for origin in origins)
    owner = normalised(origins[-1].distribution or "DISTRIBUTION")
    return (
        f"ambiguous: declared by {claims}; uninstall one of them, or block one, for example by "
        f"{BLOCK_VARIABLE}={owner}/{short_group(group)}:{name}"
    )


# ---------------------------------------------------------------- registering by hand


@overload
def register(group: str, name: str) -> Callable[[T], T]: ...
@overload
def register(group: str, name: str, found: T) -> T: ...
def register(group: str, name: str, found: Any = None) -> Any:
    """Register a class in this process, for example in a notebook; also usable as a decorator.

    Registering a name again replaces its class. Raises `PluginError` if a distribution declares the name, or if the
    class does not fit the group.

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
    installed = [origin for origin in declared(group).get(name, ()) if origin.distribution]
    if installed:
        raise PluginError(
            f"{_title(group, name)} is already the name of a plugin of {installed[0]}; choose another name"
        )
    complaint = unfit(group, found)
    if complaint:
        raise PluginError(f"{_title(group, name)} cannot be {found!r}: {complaint}")
    body = _body(found)
    origin = Origin(None, None, body.__module__, body.__qualname__, *_where(found))
    _BY_HAND[group, name] = origin
    _store(group).register(_key(name, origin), func=found)
    return found


def unregister(group: str, name: str) -> None:
    """Remove a name that was registered by hand; do nothing if it is not registered."""
    _BY_HAND.pop((group, name), None)


# ---------------------------------------------------------------- information about names


def name_of(recipe: Any) -> str:
    """Return the registered name of a recipe or its class. Raises `PluginError` if it is not registered."""
    cls = recipe if isinstance(recipe, type) else type(recipe)
    group = getattr(cls, "group", None)
    known = declared(group) if isinstance(group, str) else {}
    direct = [name for name, origins in known.items() if any(_is_at(cls, origin) for origin in origins)]
    for name in (*_loaded_as(str(group), cls, known), *direct, *known):  # the last resort imports other plugins
        if _finds(str(group), name, cls):
            return name
    raise PluginError(
        f"{cls.__module__}.{cls.__qualname__} is not registered in {group}; declare an entry point, "
        f'or call hebm.registry.register("{group}", NAME, {cls.__name__})'
    )


def _loaded_as(group: str, cls: type, known: dict[str, tuple[Origin, ...]]) -> list[str]:
    """Return the names under which this process has already loaded a class."""
    store: Any = _store(group) if known else {}
    keys = ((name, _key(name, origin)) for name, origins in known.items() for origin in origins)
    return [name for name, key in keys if key in store and store.get(key) is cls]


def _is_at(cls: type, origin: Origin) -> bool:
    return (origin.module, origin.attr) == (cls.__module__, cls.__qualname__)


def _finds(group: str, name: str, cls: type) -> bool:
    """Return whether a name refers to this class; False if it is broken."""
    try:
        return find(group, name) is cls
    except PluginError:
        return False


def origin(group: str, name: str) -> Origin:
    """Return the origin of a name with file and line, from the loaded object or else from its source.

    Raises `PluginError` if the name is unknown or ambiguous.
    """
    declared = _only(group, name)
    store, key = _store(group), _key(name, declared)
    if key in store:
        file, line = _where(store.get(key))
        return attrs.evolve(declared, file=file, line=line)
    outline = find(group, name) if _OUTLINES.get() is not None else None
    home = (outline.__module__, outline.__qualname__) if outline else (declared.module, declared.attr)
    seen = glance(*home)
    return attrs.evolve(declared, file=seen.file, line=seen.line)


def _body(found: Any) -> Any:
    """Return the object with the source: the class, or the function that a command calls."""
    return found.callback if isinstance(found, click.Command) else found


@functools.cache  # `inspect` parses the whole file of a class
def _where(found: Any) -> tuple[str | None, int | None]:
    body = _body(found)
    try:
        return inspect.getsourcefile(body), inspect.getsourcelines(body)[1]
    except Exception:  # defined in an interpreter, or the source cannot be parsed
        return None, None


def status(group: str, load: bool = False) -> tuple[Entry, ...]:
    """List all names of a group with their errors.

    Arguments:
        group: one of `GROUPS`.
        load: import each component to find all errors. Otherwise nothing is imported, and only errors visible in
            metadata or source are found.
    """
    return tuple(_entry(group, name, origins, load) for name, origins in sorted(declared(group).items()))


def _entry(group: str, name: str, origins: tuple[Origin, ...], load: bool) -> Entry:
    if len(origins) > 1:
        return Entry(name, origins, error=_ambiguity(group, name, origins))
    by_hand = origins[0].distribution is None
    seen = Glance() if by_hand else glance(origins[0].module, origins[0].attr)
    if not load:
        return Entry(name, origins, seen.summary, origins[0].outdated or seen.problem)
    try:
        find(group, name)
    except PluginError as broken:
        return Entry(name, origins, seen.summary, str(broken))
    return Entry(name, origins, seen.summary)
