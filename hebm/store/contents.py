"""What the covered files of a run (`hebm.store.sums`) must hold, and the run format."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from hebm.errors import CheckpointError
from hebm.store import sums

FORMAT = 1
"""The run format. It is raised when a run folder, or what a resumed run computes, would no longer mean the same."""

_REQUIRED = ("run_id", "history")
_TABLES = ("plugins", "images", "paths", "phases")
_KINDS: Mapping[str, Any] = {"run_id": str, "history": list, **dict.fromkeys(_TABLES, dict)}


@attrs.frozen(eq=False)
class Contents:
    """What the covered files of a run say, verified.

    Arguments:
        config: the text of `config.toml`.
        table: the same as a table.
        manifest: the content of `manifest.json`.
        metrics: the content of `metrics.json`, or None before evaluation.
        evaluations: the content of `evaluations/NAME.json` by name.
    """

    config: str
    table: Mapping[str, Any]
    manifest: dict[str, Any]
    metrics: dict[str, Any] | None
    evaluations: Mapping[str, dict[str, Any]]


def contents_of(path: Path, files: Mapping[str, bytes]) -> Contents:
    """Return what the files of a run say. Raises `CheckpointError` naming a file that does not hold what it must."""
    for name in (sums.CONFIG, sums.MANIFEST):
        if name not in files:
            raise CheckpointError(f"{path / name} is missing; put back a good copy")
    text, table = _config(path / sums.CONFIG, files[sums.CONFIG])
    manifest = _manifest(path / sums.MANIFEST, files[sums.MANIFEST])
    metrics = files.get(sums.METRICS)
    found = None if metrics is None else _object(path / sums.METRICS, metrics)
    named = {name: _object(path / file, files[file]) for name, file in sums.evaluation_names(files).items()}
    return Contents(text, table, manifest, found, named)


def _config(path: Path, data: bytes) -> tuple[str, dict[str, Any]]:
    try:
        text = data.decode()
        return text, tomllib.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}; put back a good copy") from error


def _manifest(path: Path, data: bytes) -> dict[str, Any]:
    manifest = _object(path, data)
    if manifest.get("format") != FORMAT:
        written = manifest.get("format", 0)
        fix = (
            "use the version of hebm that wrote it (its manifest.json says which), or start the run under another name"
        )
        raise CheckpointError(f"{path.parent} has run format {written!r}, this hebm reads format {FORMAT}; {fix}")
    for key, kind in _KINDS.items():
        value: Any = manifest.get(key) if key in _REQUIRED else manifest.get(key, kind())
        if not isinstance(value, kind) or (key == "paths" and not all(_is_place(place) for place in value.values())):
            raise CheckpointError(f"{path} is damaged: {key} is {value!r}; put back a good copy")
    return manifest


def _is_place(value: Any) -> bool:
    """Return whether an entry of "paths" is a table of texts, see `hebm.config.paths`."""
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _object(path: Path, data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}; put back a good copy") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is damaged: it does not hold a table; put back a good copy")
    return found


def without_sums(path: Path, manifest: bytes) -> str:
    """Return why a folder with a manifest but without sums cannot be opened."""
    try:
        written = json.loads(manifest).get("format", 0)
    except (ValueError, AttributeError):
        written = None
    if written == 0:
        return (
            f"{path} has run format 0: hebm wrote no {sums.SUMS} then, so a changed file cannot be told from a good "
            f"one; this hebm reads format {FORMAT}. Start the run under another name (its config.toml still says "
            "what it was), or use the version of hebm that wrote it (manifest.json says which)"
        )
    return (
        f"{path / sums.SUMS} is missing, so config.toml, manifest.json and metrics.json cannot be verified; put back "
        f"a good copy, or accept the present files with `hebm verify {path} --accept`"
    )
