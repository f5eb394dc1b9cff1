"""Find components by class name: `hebm.Joint` is the component of `type = "joint"`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hebm.entry_points import COMMANDS, GROUPS
from hebm.errors import PluginError
from hebm.registry import declared, find
from hebm.suggest import did_you_mean


def class_names() -> tuple[str, ...]:
    """Return the class names of all components in alphabetical order, without importing them."""
    return tuple(sorted(_claims()))


def near_class_name(name: str, others: Sequence[str]) -> str:
    """Return `"; did you mean 'Name'?"`, or "" if there is no similar name.

    A registered name such as `two-layer` suggests its class. Any other name suggests the most similar one among
    `others` and the class names.
    """
    registered = name.lower().replace("_", "-")
    found = [cls for cls, claims in _claims().items() if any(registered == own for _, own in claims)]
    return f"; did you mean {found[0]!r}?" if found else did_you_mean(name, (*others, *class_names()))


def by_class_name(name: str) -> Any:
    """Return the component whose class is named `name`, or None.

    Raises `PluginError` if several components have this class name, or if the component is broken.
    """
    claims = _claims().get(name, [])
    if len(claims) > 1:
        where = " and ".join(f"{group} {registered!r}" for group, registered in claims)
        raise PluginError(
            f"hebm.{name} is ambiguous: {where} have this class name; use hebm.registry.find(group, name)"
        )
    return find(*claims[0]) if claims else None


def _claims() -> dict[str, list[tuple[str, str]]]:
    """Map each class name to the (group, registered name) of its components, without commands."""
    found: dict[str, list[tuple[str, str]]] = {}
    for group in GROUPS:
        for registered, origins in declared(group).items() if group != COMMANDS else ():
            for name in dict.fromkeys(origin.attr for origin in origins):
                found.setdefault(name, []).append((group, registered))
    return found
