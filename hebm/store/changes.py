"""List the differences between the run in a folder and a run that should continue there."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

TRAINING_KEYS = ("seed", "data", "backbone", "prior", "train")
"""The keys that affect the weights. Others (name, evaluate, run) may change when a run is resumed."""

FREE_KEYS = ("data.root", "data.download", "data.workers")
"""Keys of `data` that may change: they set where and how fast images are read. The fingerprint covers the images."""

COMPARED = ("plugins", "data")
"""Entries of the manifest that must be equal on resume. Versions of hebm, torch and Python are only recorded."""

OWN = ("format", "run_id", "history", "threads")
"""Entries of the manifest that belong to the folder, not to the process that trains."""

LEFT_OUT = "(left out)"


def config_changes(old: str, new: str) -> list[str]:
    """Return the differences of two resolved configurations in keys that affect the weights, as "key: old → new"."""
    before, after = (only(tomllib.loads(text), TRAINING_KEYS) for text in (old, new))
    return [change for change in differing(before, after) if not change.startswith(tuple(f"{k}:" for k in FREE_KEYS))]


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return a line "key: old → new" for each entry in which two tables differ."""
    before, after = dict(_flat(old)), dict(_flat(new))
    keys = [key for key in {**before, **after} if before.get(key, LEFT_OUT) != after.get(key, LEFT_OUT)]
    return [f"{key}: {_shown(before, key)} → {_shown(after, key)}" for key in keys]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and value of each entry that is not a table."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(leaves: Mapping[str, Any], key: str) -> str:
    return repr(leaves[key]) if key in leaves else LEFT_OUT


def only(tree: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the entries of a table with these keys."""
    return {key: tree[key] for key in keys if key in tree}


def without(tree: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    """Return the entries of a table without these keys."""
    return {key: value for key, value in tree.items() if key not in keys}


def identity(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries that a resumed run must share, under names that differ from configuration keys."""
    labels = {"data": "data fingerprint"}
    return {labels.get(key, key): value for key, value in only(manifest, COMPARED).items()}


def adopted(old: dict[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest with its data. An imported run, whose data are null, adopts the first data that it gets."""
    if old.get("data", "") is not None:
        return old
    names = only(manifest["images"], ("classes", "attributes"))
    return {**old, "data": manifest["data"], "images": {**old["images"], **names}, **only(manifest, ("paths",))}
