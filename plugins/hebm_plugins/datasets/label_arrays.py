"""Labels in arrays: `(N,)` classes, or `(N, A)` attributes of 0 and 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from hebm.errors import DataError


def to_labels(array: np.ndarray, where: str) -> Tensor:
    """Return `(N,)` classes unchanged, `(N, A)` attributes as 0 and 1, int64.

    Raises `DataError` for another shape or type, and for attributes that are not 0 and 1, or −1 and 1.
    """
    if array.ndim not in (1, 2) or not (np.issubdtype(array.dtype, np.integer) or array.dtype == np.bool_):
        allowed = "(N,) integers, or (N, A) with attributes of 0 and 1"
        raise DataError(f"{where}: labels must be {allowed}, got {array.dtype} of shape {array.shape}")
    labels = torch.from_numpy(array.astype(np.int64))
    if labels.ndim == 1:
        return labels
    values = set(torch.unique(labels).tolist())
    if not (values <= {0, 1} or values <= {-1, 1}):
        shown = ", ".join(map(str, sorted(values)[:6]))
        raise DataError(f"{where}: attributes must be 0 and 1, or -1 and 1 throughout, got {shown}")
    return (labels == 1).long()


def numbered(count: int) -> tuple[str, ...]:
    """Return the names "0", …, "count − 1"."""
    return tuple(map(str, range(count)))


def names_of(labels: Tensor | None, stated: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the classes and of the attributes. At least one of the two is empty.

    Arguments:
        labels: labels of the training images, `(N,)` classes or `(N, A)` attributes; None without labels.
        stated: names from the user; () numbers the classes or attributes.
    """
    if labels is None:
        return (), ()
    if labels.ndim == 1:
        return tuple(stated) or numbered(int(labels.max()) + 1), ()
    return (), tuple(stated) or numbered(labels.shape[1])


def complaints_about(labels: Mapping[str, Tensor], stated: Sequence[str]) -> list[str]:
    """Return error messages for labels that are passed in Python; an empty list if they are valid.

    Without names, every class from 0 to the highest must occur: a single large value is not taken as the class count.

    Arguments:
        labels: "labels" of the training images and "test_labels", if they are given; not empty.
        stated: names of the classes or attributes; () numbers them.
    """
    train = labels.get("labels")
    if train is None:
        orphans = [*labels, *(["label_names"] if stated else [])]
        return [
            f"{name} is given without labels: give the training images' labels, or leave it out" for name in orphans
        ]
    if any(other.shape[1:] != train.shape[1:] for other in labels.values()):
        shapes = ", ".join(f"{name} {tuple(other.shape)}" for name, other in labels.items())
        return [f"shapes are {shapes}: both must be classes (N,), or the same attributes (N, A)"]
    twice = [name for i, name in enumerate(stated) if name in stated[:i]]
    if twice:
        return [
            f"label_names: {', '.join(map(repr, twice))} is given twice; give each class or attribute a unique name"
        ]
    return _about_classes(labels, train, stated) if train.ndim == 1 else _about_attributes(train, stated)


def _about_classes(labels: Mapping[str, Tensor], train: Tensor, stated: Sequence[str]) -> list[str]:
    low = {name: int(some.min()) for name, some in labels.items() if some.min() < 0}
    if low:
        return [f"{name}: the lowest is {value}; number the classes from 0" for name, value in low.items()]
    used = torch.unique(train).tolist()
    if not stated and len(used) != used[-1] + 1:
        missing = next(i for i, label in enumerate(used) if i != label)
        fix = "give label_names with the names of all classes, or number the classes 0 … K − 1 without a gap"
        return [f"labels: run from {used[0]} to {used[-1]}, but no image has label {missing}; {fix}"]
    count = len(stated) or len(used)
    high = {name: int(some.max()) for name, some in labels.items() if some.max() >= count}
    return [
        f"{name}: the highest is {value}, but the {count} classes are 0 to {count - 1}" for name, value in high.items()
    ]


def _about_attributes(train: Tensor, stated: Sequence[str]) -> list[str]:
    count = train.shape[1]
    if not count:
        return [f"labels: shape {tuple(train.shape)} has no column; leave them out"]
    if stated and len(stated) != count:
        return [f"label_names: {len(stated)} name(s) for {count} column(s) of labels; give one for each column"]
    if count == 1 and not stated:
        return [f"labels: shape {tuple(train.shape)}: pass labels[:, 0] for classes, or label_names for one attribute"]
    if count > 1 and bool((train.sum(1) == 1).all()):
        return ["labels: each row has exactly one 1, which means classes, not attributes: pass labels.argmax(1)"]
    return []
