"""Translate names of classes and attributes, as a user gives them, to labels.

Names match whatever their case, and with spaces or underscores: "Blond_Hair" is "blond hair".
"""

from __future__ import annotations

from collections.abc import Sequence

from hebm.errors import ConfigError
from hebm.suggest import did_you_mean

NOT_ASKED = -1
"""The value of an attribute that may be either."""


def normal_form(name: str) -> str:
    """Return a form that different spellings of one name share."""
    return " ".join(name.replace("_", " ").split()).casefold()


def class_index(asked: str, classes: Sequence[str]) -> int:
    """Return the index of a class given by its name or, if no class has that name, by its number from 0.

    Raises `ConfigError` with all names for an unknown one.

    Example:
        >>> class_index("Dog", ("cat", "dog")), class_index("0", ("cat", "dog"))
        (1, 0)
    """
    if not classes:
        raise ConfigError(f"label {asked!r}: the images of this run have no classes; leave it out")
    found = _position(asked, classes)
    if found is not None:
        return found
    if asked.strip().isdecimal() and int(asked) < len(classes):
        return int(asked)
    numbers = f"0 to {len(classes) - 1}, or one of: {', '.join(classes)}"
    raise ConfigError(f"label {asked!r}: there is no such class{did_you_mean(asked, classes)}; give {numbers}")


def attribute_values(asked: str, attributes: Sequence[str]) -> tuple[int, ...]:
    """Return 1 for each attribute named, 0 for one named with a minus sign, `NOT_ASKED` for all others.

    Arguments:
        asked: names, separated by commas.
        attributes: the names of all A attributes.

    Raises `ConfigError` with all names for an unknown one, and for one that is asked for twice.

    Example:
        >>> attribute_values("smiling, -blond hair", ("Blond_Hair", "Male", "Smiling"))
        (0, -1, 1)
    """
    if not attributes:
        raise ConfigError(f"attributes {asked!r}: the images of this run have no attributes; leave them out")
    values = [NOT_ASKED] * len(attributes)
    for word in map(str.strip, asked.split(",")):
        i, value = _attribute(word, attributes)
        if values[i] != NOT_ASKED:
            raise ConfigError(f"attributes {asked!r}: {attributes[i]!r} is asked for twice; name it once")
        values[i] = value
    return tuple(values)


def _attribute(word: str, attributes: Sequence[str]) -> tuple[int, int]:
    """Return position and value; a name that itself starts with a minus sign is taken as that name."""
    whole = _position(word, attributes)
    if whole is not None:
        return whole, 1
    name = word.removeprefix("-").strip()
    found = _position(name, attributes) if name != word else None
    if found is not None:
        return found, 0
    near, known = did_you_mean(name, attributes), ", ".join(attributes)
    raise ConfigError(f"attributes: there is no {name!r}{near}; give names, with commas between, of: {known}")


def _position(name: str, names: Sequence[str]) -> int | None:
    """Return the position of a name: exact spelling first, since two names may differ only in case."""
    if name in names:
        return names.index(name)
    forms = [normal_form(other) for other in names]
    return forms.index(normal_form(name)) if normal_form(name) in forms else None
