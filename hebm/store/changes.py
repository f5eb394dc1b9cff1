"""List what differs between the run in a folder and the run that is to continue there."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

TRAINING_KEYS = ("seed", "data", "backbone", "prior", "train")
"""The tables that decide the weights. All others (name, evaluate, run) may differ when a run is resumed."""

FREE_KEYS = ("data.root", "data.download", "data.workers")
"""Exceptions: where images are and how fast they are read; the data fingerprint guards their content."""

COMPARED = ("plugins", "data")
"""Entries of the manifest that must be equal on resuming; versions of hebm, torch and Python are only recorded."""

OWN = ("format", "run_id", "history")
"""Entries of the manifest that belong to the folder, not to the process that trains."""

LEFT_OUT = "(left out)"


def config_changes(old: str, new: str) -> list[str]:
    """Return what differs between two resolved configurations in keys that decide the weights: "key: old → new"."""
    before, after = (only(tomllib.loads(text), TRAINING_KEYS) for text in (old, new))
    return [change for change in differing(before, after) if not change.startswith(tuple(f"{k}:" for k in FREE_KEYS))]


def differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return a line "key: old → new" for each leaf in which two tables differ."""
    before, after = dict(_flat(old)), dict(_flat(new))
    keys = [key for key in {**before, **after} if before.get(key, LEFT_OUT) != after.get(key, LEFT_OUT)]
    return [f"{key}: {_shown(before, key)} → {_shown(after, key)}" for key in keys]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield leaves by key path; lists are leaves."""
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
    """Return what a resumed run must share, under names that no configuration key has."""
    labels = {"data": "data fingerprint"}
    return {labels.get(key, key): value for key, value in only(manifest, COMPARED).items()}


def adopted(old: dict[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest with its data: an imported run (its data are null) takes over the first that it meets."""
    if old.get("data", "") is not None:
        return old
    names = only(manifest["images"], ("classes", "attributes"))
    return {**old, "data": manifest["data"], "images": {**old["images"], **names}, **only(manifest, ("paths",))}
