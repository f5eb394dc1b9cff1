"""Convert names of classes and attributes to labels.

Names match regardless of case, and with spaces or underscores: "Blond_Hair" equals "blond hair".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from hebm.errors import ConfigError
from hebm.suggest import did_you_mean

if TYPE_CHECKING:
    from hebm.interfaces import ImageSpec

NOT_ASKED = -1
"""The value of an attribute that may be 0 or 1."""

Label: TypeAlias = str | int | Sequence[str | int] | Tensor | None
"""A class by name or number for all samples, or one for each sample."""

Attributes: TypeAlias = str | Tensor | None
"""Names of attributes for all samples, or values `(n, A)` of each attribute for each sample."""


def asked_labels(images: ImageSpec | None, n: int, label: Label, attributes: Attributes) -> Tensor | None:
    """Return labels of n samples, classes `(n,)` or attributes `(n, A)`; None if neither is requested.

    Arguments:
        images: description of the images, with the names of classes or attributes; None allows only numbers.
        n: number of samples.
        label: requested classes.
        attributes: requested attributes, as for `attribute_values`.

    Raises `ConfigError` for unknown names, if both are requested, or if the images have the other kind of labels.
    """
    if label is not None and attributes is not None:
        raise ConfigError("label and attributes: images have classes or attributes, never both; give one of them")
    if label is not None:
        if images is not None and images.attributes:
            known = ", ".join(images.attributes)
            raise ConfigError(f"label: these images have attributes, not classes; use attributes with: {known}")
        return _classes(label, None if images is None else images.classes, n)
    if attributes is None:
        return None
    if images is not None and images.classes:
        known = ", ".join(images.classes)
        raise ConfigError(f"attributes: these images have classes, not attributes; use a label of: {known}")
    if isinstance(attributes, Tensor):
        return attributes.long()
    values = attribute_values(attributes, () if images is None else images.attributes)
    return torch.tensor([values]).expand(n, -1)


def _classes(label: str | int | Sequence[str | int] | Tensor, classes: Sequence[str] | None, n: int) -> Tensor:
    if isinstance(label, (str, int)):
        return torch.tensor([_class(label, classes)]).expand(n)
    if not isinstance(label, (Tensor, Sequence, np.ndarray)):
        raise ConfigError(f"label: expected a class by name or number, or one for each sample, got {label!r}")
    found = list(label) if not isinstance(label, (Tensor, np.ndarray)) else label.tolist()
    return torch.tensor([_class(one, classes) for one in found])


def _class(label: str | int, classes: Sequence[str] | None) -> int:
    if classes is not None:
        return class_index(str(label), classes)
    if isinstance(label, int) and not isinstance(label, bool):
        return label
    raise ConfigError(f"label {label!r}: this model has no names of classes; give a number from 0")


def normal_form(name: str) -> str:
    """Return the normal form of a name, equal for its different spellings."""
    return " ".join(name.replace("_", " ").split()).casefold()


def class_index(asked: str, classes: Sequence[str]) -> int:
    """Return the index of a class, given by its name or else by its number from 0.

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
    raise ConfigError(f"label {asked!r} is not a class{did_you_mean(asked, classes)}; give {numbers}")


def attribute_values(asked: str, attributes: Sequence[str]) -> tuple[int, ...]:
    """Return the value of each attribute: 1 if it is named, 0 if named with a minus sign, or else `NOT_ASKED`.

    Arguments:
        asked: names, separated by commas.
        attributes: the names of all A attributes.

    Raises `ConfigError` with all names for an unknown one, and for one that is named twice.

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
            raise ConfigError(f"attributes {asked!r}: {attributes[i]!r} is named twice; name it once")
        values[i] = value
    return tuple(values)


def _attribute(word: str, attributes: Sequence[str]) -> tuple[int, int]:
    """Return position and value. A name that starts with a minus sign itself is matched first."""
    whole = _position(word, attributes)
    if whole is not None:
        return whole, 1
    name = word.removeprefix("-").strip()
    found = _position(name, attributes) if name != word else None
    if found is not None:
        return found, 0
    near, known = did_you_mean(name, attributes), ", ".join(attributes)
    raise ConfigError(f"attributes: there is no {name!r}{near}; give names, separated by commas, from: {known}")


def _position(name: str, names: Sequence[str]) -> int | None:
    """Return the position of a name, or None. The exact spelling comes first, since names may differ only in case."""
    if name in names:
        return names.index(name)
    forms = [normal_form(other) for other in names]
    return forms.index(normal_form(name)) if normal_form(name) in forms else None
