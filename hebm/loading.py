"""Load a component and check that it fits its group."""

from __future__ import annotations

import importlib
import inspect
import logging
from typing import Any

import click

from hebm.config.recipes import fields_of, is_recipe, unfit_field
from hebm.distributions import shield
from hebm.entry_points import COMMANDS, GROUPS, Origin
from hebm.errors import PluginError
from hebm.outlines import Outlines, Unreadable

logger = logging.getLogger(__name__)


def load_component(group: str, origin: Origin, title: str) -> Any:
    """Import a component that a distribution declares.

    Arguments:
        group: the group of the component.
        origin: where the component is declared.
        title: the component's name in messages.

    Raises `PluginError` if it was written for another interface, cannot be imported or does not fit the group.
    """
    if origin.outdated:
        raise PluginError(f"{title} of {origin} was {origin.outdated}")
    where = f"{title} of {origin} ({origin.path}) is broken"
    try:
        with shield("it cannot be imported"):
            loaded = _imported(origin)
        with shield("it cannot be used"):
            complaint = unfit(group, loaded)
    except PluginError as error:
        raise PluginError(f"{where}: {error}{origin.undeclared}") from error.__cause__
    if complaint:
        raise PluginError(f"{where}: {complaint}{origin.undeclared}")
    logger.debug("imported %s of %s (%s)", title, origin, origin.path)
    return loaded


def _imported(origin: Origin) -> Any:
    found: Any = importlib.import_module(origin.module)
    for part in filter(None, origin.attr.split(".")):
        found = getattr(found, part)
    return found


def interface(group: str) -> type:
    """Return the interface of a group of `GROUPS`. Importing one may import torch."""
    module, _, name = GROUPS[group].partition(":")
    found: type = getattr(importlib.import_module(module), name)
    return found


def read_component(group: str, origin: Origin, outlines: Outlines) -> type:
    """Return the outline of a recipe class. Raises `Unreadable` if it does not fit the group, or has no outline."""
    if group == COMMANDS or origin.outdated:
        raise Unreadable(str(origin))
    found = outlines.get(origin.module, origin.attr)
    module, _, name = GROUPS[group].partition(":")
    if complaint := _unfit_class(outlines.get(module, name), group, found):
        raise Unreadable(f"{origin.path}: {complaint}")
    outline: type = found
    return outline


def unfit(group: str, found: Any) -> str | None:
    """Return the reason why an object cannot be registered in a group, or None."""
    if group == COMMANDS:
        return None if isinstance(found, click.Command) else "it is not a click command"
    return _unfit_class(interface(group), group, found)


def _unfit_class(base: type, group: str, found: Any) -> str | None:
    if not isinstance(found, type) or not issubclass(found, base):
        return f"it is not a subclass of {GROUPS[group].replace(':', '.')}"
    if inspect.isabstract(found):
        return f"it does not implement: {', '.join(sorted(getattr(found, '__abstractmethods__', ())))}"
    if not is_recipe(found):
        return "it is not decorated with hebm.config.recipes.recipe"
    try:
        return unfit_field(found) or _lacking(base, found)
    except PluginError as error:
        return str(error)


def _lacking(interface: type, found: type) -> str | None:
    """Return a message if a class lacks an attribute that the interface annotates, or None."""
    known = {field.name for field in fields_of(found)}
    annotated = [
        name for name, kind in vars(interface).get("__annotations__", {}).items() if "ClassVar" not in str(kind)
    ]
    absent = [name for name in annotated if name not in known and not hasattr(found, name)]
    return f"it lacks the field {absent[0]!r}" if absent else None
