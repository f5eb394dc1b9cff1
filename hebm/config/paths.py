"""Keys that name files and folders. A run stores their absolute paths, so that it can be opened from elsewhere.

A field made by `option(path=True)` names a file or folder relative to the folder where hebm is started. A run stores
the text as written and the absolute path that it meant.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from hebm.config.recipes import fields_of
from hebm.errors import ConfigError

WRITTEN, ABSOLUTE = "written", "absolute"
Places = Mapping[str, Mapping[str, str]]
"""For each key: the text as written, and the absolute path that it meant."""


def paths_of(recipe: Any, prefix: str = "") -> dict[str, str]:
    """Return the values of all keys that name files or folders, in a recipe and its nested recipes."""
    found: dict[str, str] = {}
    for field in fields_of(type(recipe)):
        value, key = getattr(recipe, field.name), prefix + field.name
        if attrs.has(type(value)):
            found |= paths_of(value, f"{key}.")
        elif isinstance(value, str) and _is_path(field, recipe):
            found[key] = value
    return found


def _is_path(field: attrs.Attribute[Any], recipe: Any) -> bool:
    mark = field.metadata.get("path", False)
    return bool(mark(recipe)) if callable(mark) else bool(mark)


def expanded(text: str) -> str:
    """Return a path with `~` and `$VARIABLE` replaced. Raises `ConfigError` for a home folder that does not exist."""
    try:
        return str(Path(os.path.expandvars(text)).expanduser()) if text.startswith("~") or "$" in text else text
    except RuntimeError as error:
        raise ConfigError(f"{text!r}: {error}; write the path without ~") from error


def absolute(text: str) -> str:
    """Return the absolute path of a text, relative to the current folder."""
    return str(Path(expanded(text)).absolute())


def described(written: Any, located: Any) -> dict[str, dict[str, str]]:
    """Return the paths that a run stores.

    Arguments:
        written: the experiment with paths as written.
        located: the experiment with paths where the files were found.
    """
    found = paths_of(located)
    return {key: {WRITTEN: text, ABSOLUTE: absolute(found[key])} for key, text in paths_of(written).items()}


def located(recipe: Any, places: Places) -> Any:
    """Return the recipe with resolved paths: with `~` replaced, or at the run's stored places.

    The stored absolute path is used if the text did not change and the path exists.
    """
    for key, text in paths_of(recipe).items():
        place = places.get(key, {})
        same = place.get(WRITTEN) == text and os.path.exists(place.get(ABSOLUTE, ""))
        found = place[ABSOLUTE] if same else expanded(text)
        recipe = recipe if found == text else _changed(recipe, key.split("."), found)
    return recipe


def _changed(recipe: Any, keys: list[str], value: str) -> Any:
    first, *rest = keys
    return attrs.evolve(recipe, **{first: _changed(getattr(recipe, first), rest, value) if rest else value})


def missing(recipe: Any, places: Places) -> str:
    """Return a line for each missing path, with its text, its current meaning and its former meaning."""
    lines = []
    for key, text in paths_of(recipe).items():
        here, before = absolute(text), places.get(key, {}).get(ABSOLUTE)
        if not os.path.exists(here):  # also False for a name that is too long
            now = "" if here == text else f" is {here} here"
            was = f", and was {before} when the run started" if before not in (None, here) else ""
            lines.append(f"\n  {key} = {text!r}{now}{was}: not found; set it with --set {key}=PATH")
    return "".join(lines)
