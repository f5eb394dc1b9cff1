"""Read the covered files of a run (`hebm.store.sums`), and check their structure and format."""

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
"""The version of the run format. It increases if run folders, or results of a resumed run, change their meaning."""

_FIX = "put back a good copy"


@attrs.frozen
class _Manifest:
    """The required content of `manifest.json`, besides the format."""

    MORE_KEYS: ClassVar[bool] = True

    run_id: str
    history: list[list[str]]
    plugins: Mapping[str, str] = attrs.field(factory=dict)
    images: Mapping[str, Any] = attrs.field(factory=dict)
    paths: Mapping[str, Mapping[str, str]] = attrs.field(factory=dict)
    phases: Mapping[str, int] = attrs.field(factory=dict)
    data: Any = None
    hardware: Mapping[str, Any] = attrs.field(factory=dict)
    threads: int | None = None
    hebm: str = ""
    torch: str = ""
    python: str = ""
    platform: str = ""


@attrs.frozen
class _Training:
    """The required content of the table `train` in `config.toml`."""

    MORE_KEYS: ClassVar[bool] = True

    backbone_from: str | None = None


@attrs.frozen
class _Configuration:
    """The required content of `config.toml` for opening a run. The recipes check the rest when they are built."""

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
    """The verified content of the covered files of a run.

    Arguments:
        config: the text of `config.toml`.
        table: the configuration as a table.
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
    """Return the content of the files of a run. Raises `CheckpointError` with the file that does not fit."""
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
        fix = "use the version of hebm that wrote it (see manifest.json), or start the run under another name"
        raise CheckpointError(f"{path} has run format {written!r}, this hebm reads format {FORMAT}; {fix}")
    with damaged(path, _FIX):
        shaped(_Manifest, manifest)
    return manifest


def _object(path: Path, data: bytes) -> dict[str, Any]:
    with damaged(path, _FIX):
        found: dict[str, Any] = shaped(dict[str, Any], parsed(data))
    return found


def without_sums(path: Path, manifest: bytes) -> str:
    """Return the error message for a folder with a manifest but without checksums."""
    try:
        written = shaped(dict[str, Any], parsed(manifest)).get("format", 0)
    except ShapeError:
        written = None
    if written == 0:
        return (
            f"{path} has run format 0: it has no {sums.SUMS}, so changed files cannot be detected; this hebm reads "
            f"format {FORMAT}. Start the run again under another name from its config.toml, or use the version of hebm "
            "that wrote it (see manifest.json)"
        )
    return (
        f"{path / sums.SUMS} is missing, so config.toml, manifest.json and metrics.json cannot be verified; put back "
        f"a good copy, or accept the current files with `hebm verify {path} --accept`"
    )
