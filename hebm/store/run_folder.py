"""The folder of one run, and the promise that it holds one experiment.

runs/<name>/  config.toml     the resolved configuration
              manifest.json   run id, versions, data fingerprint, machine, history of permitted changes
              run.lock        who is at work
              metrics.jsonl   what training logged
              metrics.json    what evaluation found
              checkpoints/    step-00001234/ …
              samples/        images
              analyses/       chains/ … what `hebm analyse` found
              report.html     the page
              imported/       of an imported run: what its file held besides the weights
"""

from __future__ import annotations

import json
import tomllib
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from hebm.errors import CheckpointError, HebmError
from hebm.store.durable import remove_unfinished, replace_file, reporting
from hebm.store.metrics import write_json_atomic

TRAINING_KEYS = ("seed", "data", "backbone", "prior", "train")
"""What decides the weights: a run that resumes must have the same. All else (name, evaluate, run) may differ."""

FREE_KEYS = ("data.root", "data.download", "data.workers")
"""Exceptions among them: where images lie and how fast they are read; the data fingerprint guards their content."""

COMPARED = ("hebm", "plugins", "data")
"""Entries of the manifest that must be equal on resuming; torch, Python and the machine may differ and are recorded."""

LEFT_OUT = "(left out)"


@attrs.frozen
class RunFolder:
    """Paths of a run, its identity, and the check that it is resumed as what it was.

    Arguments:
        path: the folder; it need not exist yet.
    """

    path: Path = attrs.field(converter=Path)

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.toml"

    @property
    def manifest(self) -> Path:
        """Versions, data fingerprint, machine, run id."""
        return self.path / "manifest.json"

    @property
    def metrics_log(self) -> Path:
        """What training logged, one record a line."""
        return self.path / "metrics.jsonl"

    @property
    def metrics(self) -> Path:
        """What evaluation found; there at the end only."""
        return self.path / "metrics.json"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def imported(self) -> Path:
        """What the file of an imported run held besides its weights, as one checkpoint."""
        return self.path / "imported"

    @property
    def samples(self) -> Path:
        """The folder of images."""
        return self.path / "samples"

    @property
    def analyses(self) -> Path:
        """What `hebm analyse` found: a folder for each analysis."""
        return self.path / "analyses"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    def create(self) -> None:
        """Make the folder itself, for the lock to lie in. Raises `CheckpointError`."""
        with reporting(f"make {self.path}"):
            self.path.mkdir(parents=True, exist_ok=True)

    def create_or_open(self, config_text: str, manifest: Mapping[str, Any], allow: bool = False) -> dict[str, Any]:
        """Start a run here, or make sure that the one here is the same experiment. Take the lock first.

        Arguments:
            config_text: the resolved configuration, TOML.
            manifest: what `hebm.store.provenance.describe_run` says.
            allow: go on in spite of differences; they are recorded in the manifest's `history`.

        Returns the manifest as it now stands, with `run_id`. Raises `CheckpointError` with every differing key (old →
        new) if the configuration's training keys, the data or a plugin's version changed.
        """
        self.create()
        with reporting(f"tidy {self.path}"):
            remove_unfinished(self.path)
        if not self.manifest.exists():
            return self._start(config_text, manifest)
        old = self.read_manifest()
        adopted = _adopted(old, manifest)
        old_config = self._read_config()
        changes = config_changes(self._resolved(old_config), config_text)
        changes += _changes(_identity(adopted), _identity(manifest))
        if adopted is not old:
            changes += _changes(_only(adopted, ("images",)), _only(manifest, ("images",)))
        if changes and not allow:
            raise CheckpointError(_refusal(self.path, changes))
        if adopted is not old:
            write_json_atomic(self.manifest, adopted)
        return self._update(adopted, old_config, config_text, manifest, changes)

    def read_manifest(self) -> dict[str, Any]:
        """The manifest of the run here. Raises `CheckpointError` if it is missing or damaged."""
        with reporting(f"read {self.manifest}"):
            data = self.manifest.read_bytes()
        try:
            manifest = json.loads(data)
        except ValueError as error:
            raise CheckpointError(f"{self.manifest} is damaged: {error}; put back a good copy") from error
        if not isinstance(manifest, dict) or not isinstance(manifest.get("run_id"), str):
            raise CheckpointError(f"{self.manifest} is damaged: it has no run_id; put back a good copy")
        return manifest

    def _read_config(self) -> str:
        with reporting(f"read {self.config}"):
            data = self.config.read_bytes()
        try:
            text = data.decode()
            tomllib.loads(text)
        except ValueError as error:
            raise CheckpointError(f"{self.config} is damaged: {error}; put back a good copy") from error
        return text

    def _resolved(self, text: str) -> str:
        """The configuration here with the defaults of newer keys; as it is where it cannot be read now."""
        from hebm.config.experiment import load  # it lists schemes, which know this module
        from hebm.config.writing import dumps

        try:
            return dumps(load(self.config))
        except HebmError:
            return text

    def _start(self, config_text: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        if self.checkpoints.exists():
            raise CheckpointError(f"{self.path} has checkpoints but no manifest.json; put it back or use another name")
        started = {"run_id": uuid.uuid4().hex, **manifest, "history": []}
        self._write_config(config_text)
        write_json_atomic(self.manifest, started)  # last: a folder with a manifest is a run
        return started

    def _update(
        self, old: dict[str, Any], old_config: str, config_text: str, manifest: Mapping[str, Any], changes: list[str]
    ) -> dict[str, Any]:
        free = _changes(_without(old, COMPARED), _without(manifest, COMPARED))
        changes = [*changes, *(change for change in free if change not in changes)]
        if changes:
            old = {**old, **manifest, "history": [*old.get("history", []), changes]}
            write_json_atomic(self.manifest, old)
        if config_text != old_config:
            self._write_config(config_text)
        return old

    def _write_config(self, text: str) -> None:
        with reporting(f"write {self.config}"):
            replace_file(self.config, text.encode())


def config_changes(old: str, new: str) -> list[str]:
    """What differs between two resolved configurations in `TRAINING_KEYS`, less `FREE_KEYS`: "key: old → new"."""
    before, after = (_only(tomllib.loads(text), TRAINING_KEYS) for text in (old, new))
    return [change for change in _changes(before, after) if not change.startswith(tuple(f"{k}:" for k in FREE_KEYS))]


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    before, after = dict(_flat(old)), dict(_flat(new))
    keys = [key for key in {**before, **after} if before.get(key, LEFT_OUT) != after.get(key, LEFT_OUT)]
    return [f"{key}: {_shown(before, key)} → {_shown(after, key)}" for key in keys]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves by key path; lists are leaves."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _shown(leaves: Mapping[str, Any], key: str) -> str:
    return repr(leaves[key]) if key in leaves else LEFT_OUT


def _only(tree: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: tree[key] for key in keys if key in tree}


def _identity(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a resumed run must share, under names that no configuration key has."""
    labels = {"data": "data fingerprint", "hebm": "hebm version"}
    return {labels.get(key, key): value for key, value in _only(manifest, COMPARED).items()}


def _adopted(old: dict[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """An imported run has seen no images (its data are null): the first that fit its backbone become its data."""
    if old.get("data", "") is not None:
        return old
    names = _only(manifest["images"], ("classes", "attributes"))
    return {**old, "data": manifest["data"], "images": {**old["images"], **names}}


def _without(tree: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key not in (*keys, "run_id", "history")}


def _refusal(path: Path, changes: list[str]) -> str:
    listed = "".join(f"\n  {change}" for change in changes)
    return (
        f"{path} holds another experiment; it differs in:{listed}\n"
        "give this run another name, restore what differs, or go on in spite of it with --allow-changes"
    )
