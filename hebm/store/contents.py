"""What the covered files of a run (`hebm.store.sums`) must hold, and the run format."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs

from hebm.errors import CheckpointError
from hebm.store import sums
from hebm.store.json_shapes import ShapeError, damaged, parsed, shaped

FORMAT = 1
"""The run format. It is raised when a run folder, or what a resumed run computes, would no longer mean the same."""

_FIX = "put back a good copy"


@attrs.frozen
class _Manifest:
    """What `manifest.json` must hold, besides the format."""

    MORE_KEYS: ClassVar[bool] = True

    run_id: str
    history: list[list[str]]
    plugins: Mapping[str, str] = attrs.field(factory=dict)
    images: Mapping[str, Any] = attrs.field(factory=dict)
    paths: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    phases: Mapping[str, int] = attrs.field(factory=dict)
    data: Any = None
    hardware: Mapping[str, Any] = attrs.field(factory=dict)
    hebm: str = ""
    torch: str = ""
    python: str = ""
    platform: str = ""


@attrs.frozen
class _Training:
    """What `config.toml` must hold of its table `train`."""

    MORE_KEYS: ClassVar[bool] = True

    backbone_from: str | None = None


@attrs.frozen
class _Configuration:
    """What `config.toml` must hold for its run to be opened; the recipes check the rest when they are built."""

    MORE_KEYS: ClassVar[bool] = True

    name: str = ""
    seed: int = 0
    data: Mapping[str, Any] = attrs.field(factory=dict)
    backbone: Mapping[str, Any] = attrs.field(factory=dict)
    prior: Mapping[str, Any] = attrs.field(factory=dict)
    train: _Training = _Training()
    evaluate: Mapping[str, Any] = attrs.field(factory=dict)
    run: Mapping[str, Any] = attrs.field(factory=dict)


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
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error}; {_FIX}") from error
    with damaged(path, _FIX):
        shaped(_Configuration, table)
    return text, table


def _manifest(path: Path, data: bytes) -> dict[str, Any]:
    manifest = _object(path, data)
    if manifest.get("format") != FORMAT:
        written = manifest.get("format", 0)
        fix = (
            "use the version of hebm that wrote it (its manifest.json says which), or start the run under another name"
        )
        raise CheckpointError(f"{path} has run format {written!r}, this hebm reads format {FORMAT}; {fix}")
    with damaged(path, _FIX):
        shaped(_Manifest, manifest)
    return manifest


def _object(path: Path, data: bytes) -> dict[str, Any]:
    with damaged(path, _FIX):
        found: dict[str, Any] = shaped(dict[str, Any], parsed(data))
    return found


def without_sums(path: Path, manifest: bytes) -> str:
    """Return why a folder with a manifest but without sums cannot be opened."""
    try:
        written = shaped(dict[str, Any], parsed(manifest)).get("format", 0)
    except ShapeError:
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
