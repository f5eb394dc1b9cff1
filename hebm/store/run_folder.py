"""The folder of a run, and the checks that it holds one experiment.

runs/<name>/  config.toml     the resolved configuration
              manifest.json   format, run id, versions, data fingerprint, machine, history of permitted changes
              metrics.json    the results of evaluation
              evaluations/    k100.json … the results of named evaluations
              SHA256SUMS      checksums of these files, written last (`hebm.store.sums`)
              run.lock        the process that uses the folder
              metrics.jsonl   the training log
              checkpoints/    step-00001234/ …
              samples/        images
              analyses/       chains/ … the results of `hebm analyse`
              failures.log    tracebacks of failed metrics
              report.html     the report page
              cache/          data that can be computed again, such as scores of the test split
              imported/       what an imported file contains besides weights
"""

from __future__ import annotations

import tomllib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from hebm.errors import CheckpointError, HebmError
from hebm.store import sums
from hebm.store.changes import COMPARED, OWN, adopted, config_changes, differing, identity, only, without
from hebm.store.contents import FORMAT, Contents, contents_of, without_sums
from hebm.store.durable import remove_unfinished, reporting
from hebm.store.lock import NAME as LOCK
from hebm.store.metrics import json_bytes

_OWN_FOLDERS = ("checkpoints", "samples", "analyses", sums.EVALUATIONS)
_OWN_NAMES = (*sums.COVERED, sums.SUMS, sums.PENDING, LOCK, "metrics.jsonl", *_OWN_FOLDERS)
_NOTHING: Mapping[str, bytes] = {}
_LOGS = (".log", ".out", ".err", ".txt")
"""Endings of files that a shell or queue may write into the folder before the run starts."""


@attrs.frozen
class RunFolder:
    """The paths and identity of a run, with the check that it is resumed as the same experiment.

    Arguments:
        path: the folder; it need not exist yet.
    """

    path: Path = attrs.field(converter=Path)

    @property
    def config(self) -> Path:
        """The path of the resolved configuration."""
        return self.path / sums.CONFIG

    @property
    def manifest(self) -> Path:
        """The path of the manifest: versions, data fingerprint, machine, run id."""
        return self.path / sums.MANIFEST

    @property
    def metrics_log(self) -> Path:
        """The path of the training log, with one record per line."""
        return self.path / "metrics.jsonl"

    @property
    def metrics(self) -> Path:
        """The path of the results of evaluation; the file exists only after an evaluation."""
        return self.path / sums.METRICS

    @property
    def checkpoints(self) -> Path:
        """The path of the folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def imported(self) -> Path:
        """The path of the checkpoint that holds what an imported file contains besides weights."""
        return self.path / "imported"

    @property
    def samples(self) -> Path:
        """The path of the folder of images."""
        return self.path / "samples"

    @property
    def analyses(self) -> Path:
        """The path of the results of `hebm analyse`, with a folder for each analysis."""
        return self.path / "analyses"

    @property
    def failures_log(self) -> Path:
        """The path of the tracebacks of failed metrics; the file exists only if one failed."""
        return self.path / "failures.log"

    @property
    def adaptations(self) -> Path:
        """The path of the adapted step sizes; the file exists only if step sizes were adapted."""
        return self.path / "adaptations.json"

    @property
    def cache(self) -> Path:
        """The path of data that can be computed again, such as scores of the test split."""
        return self.path / "cache"

    @property
    def report(self) -> Path:
        """The path of the report page."""
        return self.path / "report.html"

    @property
    def started(self) -> bool:
        """True if a run was started here, that is, its checksums were written."""
        with reporting(f"read {self.path}"):
            return (self.path / sums.SUMS).exists()

    # ------------------------------------------------------------ reading

    def read(self) -> Contents:
        """Read and verify the files of the run.

        Raises `CheckpointError` if this is not a run folder, if it has another format, or if a file was changed or
        damaged.
        """
        self._require_run()
        return contents_of(self.path, sums.read(self.path))

    def _require_run(self) -> None:
        if self.started:
            return
        if (self.path / sums.PENDING).exists():
            raise CheckpointError(f"{self.path} was not started completely; run hebm run again with the same file")
        if not self.manifest.exists():
            missing = "has no manifest.json" if self.path.exists() else "does not exist"
            fix = "give one that `hebm run` made, such as runs/NAME"
            raise CheckpointError(f"{self.path} is not a run folder: it {missing}; {fix}")
        raise CheckpointError(without_sums(self.path, sums.read_unverified(self.path)[sums.MANIFEST]))

    # ------------------------------------------------------------ writing

    def create(self) -> None:
        """Create the folder, so that it can be locked. Raises `CheckpointError`."""
        with reporting(f"make {self.path}"):
            self.path.mkdir(parents=True, exist_ok=True)

    def tidy(self) -> None:
        """Remove unfinished files of killed processes. The caller must hold the lock. Raises `CheckpointError`."""
        with reporting(f"tidy {self.path}"):
            for folder in (self.path, *(self.path / name for name in _OWN_FOLDERS), self.imported):
                remove_unfinished(folder)

    def create_or_open(self, config_text: str, manifest: Mapping[str, Any], allow: bool = False) -> dict[str, Any]:
        """Start a run here, or check that the run here is the same experiment. The caller must hold the lock.

        Arguments:
            config_text: the resolved configuration as TOML.
            manifest: the result of `hebm.store.provenance.describe_run`.
            allow: continue despite differences, and record them in the manifest's `history`.

        Returns the updated manifest, with `run_id`. Raises `CheckpointError` with all differing keys (old → new) if the
        configuration's training keys, the data or a plugin's version changed.
        """
        self.create()
        self.tidy()
        if not self.started:
            return self._start(config_text, manifest)
        found = self.read()
        sums.finish_pending(self.path)
        old = adopted(found.manifest, manifest)
        changes = self.changes(found, config_text, manifest)
        if changes and not allow:
            raise CheckpointError(differences_error(self.path, changes))
        return self._update(found, old, config_text, manifest, changes)

    def changes(self, found: Contents, config_text: str, manifest: Mapping[str, Any]) -> list[str]:
        """Return the differences from the experiment found here, as lines "key: old → new"."""
        old = adopted(found.manifest, manifest)
        changes = config_changes(_resolved(found.config), config_text)
        changes += differing(identity(old), identity(manifest))
        if old is not found.manifest:
            changes += differing(only(old, ("images",)), only(manifest, ("images",)))
        return changes

    def _start(self, config_text: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
        if self.manifest.exists() and not (self.path / sums.PENDING).exists():
            self._require_run()
        self._require_own()
        if self.checkpoints.exists():
            raise CheckpointError(
                f"{self.path} has checkpoints but no {sums.SUMS}; restore this file, or choose another folder"
            )
        started = {"format": FORMAT, "run_id": uuid.uuid4().hex, **manifest, "history": []}
        sums.write(self.path, {sums.CONFIG: config_text.encode(), sums.MANIFEST: json_bytes(started)})
        return started

    def _require_own(self) -> None:
        """Raise `CheckpointError` if the folder has files that hebm does not write: a run must not mix with them."""
        with reporting(f"read {self.path}"):
            found = sorted(path.name for path in self.path.iterdir())
        foreign = [
            name for name in found if name not in _OWN_NAMES and Path(name).suffix not in _LOGS and name[0] != "."
        ]
        if foreign:
            some = ", ".join(foreign[:3]) + (", …" if len(foreign) > 3 else "")
            raise CheckpointError(
                f"{self.path} is not empty and not a run folder (it has {some}); choose another folder"
            )

    def _update(
        self,
        found: Contents,
        old: dict[str, Any],
        config_text: str,
        manifest: Mapping[str, Any],
        changes: list[str],
        results: Mapping[str, bytes] = _NOTHING,
    ) -> dict[str, Any]:
        free = differing(without(old, (*COMPARED, *OWN)), without(manifest, (*COMPARED, *OWN)))
        changes = [*changes, *(change for change in free if change not in changes)]
        new = {**old, **manifest, "history": [*old["history"], changes]} if changes else old
        written: dict[str, bytes | None] = dict(results)
        if config_text != found.config:  # remove measurements with other settings
            written = {sums.METRICS: None, **results, sums.CONFIG: config_text.encode()}
        if new != found.manifest:
            written[sums.MANIFEST] = json_bytes(new)
        if written:
            sums.write(self.path, written)
        return new

    def record(
        self, config_text: str, manifest: Mapping[str, Any], metrics: Mapping[str, Any], name: str | None = None
    ) -> None:
        """Write results of an evaluation together with its configuration and manifest.

        A named evaluation changes neither the configuration nor `metrics.json`; its file holds its settings.

        The caller must hold the lock and have checked that it is the same experiment. Raises `CheckpointError`.
        """
        found = self.read()
        changes = self.changes(found, config_text, manifest)
        file, config, content = sums.METRICS, config_text, metrics
        if name is not None:
            settings = tomllib.loads(config_text).get("evaluate", {})
            file, config, content = sums.evaluation_file(name), found.config, {**metrics, "evaluate": settings}
        self._update(found, adopted(found.manifest, manifest), config, manifest, changes, {file: json_bytes(content)})

    def record_threads(self, threads: int) -> None:
        """Record the number of threads that this run uses whenever it is resumed. The caller must hold the lock."""
        sums.write(self.path, {sums.MANIFEST: json_bytes({**self.read().manifest, "threads": threads})})

    def forget_results(self) -> None:
        """Remove the results of all evaluations, since the weights change. The caller must hold the lock."""
        found = self.read()
        results = {sums.evaluation_file(name): None for name in found.evaluations}
        if found.metrics is not None or results:
            sums.write(self.path, {sums.METRICS: None, **results})

    def write_metrics(self, metrics: Mapping[str, Any] | None) -> None:
        """Write or remove the results of evaluation. The caller must hold the lock. Raises `CheckpointError`."""
        sums.write(self.path, {sums.METRICS: None if metrics is None else json_bytes(metrics)})

    def accept(self) -> list[str]:
        """Update the checksums to the present files, and record the changed files in the history.

        The caller must hold the lock. Returns the names of the changed files. Raises `CheckpointError` for a file that
        is missing or does not have the expected structure.
        """
        found, changed = sums.read_unverified(self.path), sums.changed(self.path)
        manifest = contents_of(self.path, found).manifest
        if changed:
            note = [f"{name}: changed by hand and accepted" for name in changed]
            sums.accept(self.path, found)
            sums.write(self.path, {sums.MANIFEST: json_bytes({**manifest, "history": [*manifest["history"], note]})})
        return changed


def _resolved(text: str) -> str:
    """Add the defaults of newer keys to a resolved configuration. A text that cannot be read is returned unchanged."""
    from hebm.config.experiment import Experiment  # imported here: it imports schemes, which import this module
    from hebm.config.writing import dumps

    try:
        return dumps(Experiment.from_toml(text, "config.toml"))
    except HebmError:
        return text


def differences_error(path: Path, changes: list[str]) -> str:
    """Return the error message for a folder with another experiment."""
    listed = "".join(f"\n  {change}" for change in changes)
    steps = all(change.startswith("train.") and change.partition(":")[0].endswith("steps") for change in changes)
    further = "train it further with --extend (extend=True in Python), " if steps else ""
    return (
        f"{path} holds another experiment; it differs in:{listed}\n"
        f"{further}give this run another name, undo these changes, or continue anyway with --allow-changes "
        "(allow_changes=True in Python)"
    )
