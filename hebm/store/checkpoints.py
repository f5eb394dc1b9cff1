"""Write and read checkpoints, which are folders that exist completely or not at all.

    checkpoints/step-00001234/    backbone.safetensors, prior.safetensors, …   tensors by name
                                  manifest.json      format, phase, step, total_step, state, run id, seal of every file
                                  manifest.sha256    the hash of the manifest, in the format of `sha256sum -c`

`save` writes to a temporary folder, fsyncs every file and the folder, renames it, fsyncs the parent, and only then
removes older checkpoints. `load_latest` loads the newest checkpoint whose hashes are correct, and reports skipped ones.
Pickles are neither written nor read. A step that is saved again (the last step of a phase is the first of the next)
gets a suffix, `step-00001234-1`, and counts as newer. So an intact checkpoint is never replaced in place.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from hebm.errors import CheckpointError
from hebm.store.durable import (
    TEMPORARY,
    UnreadableError,
    discard,
    not_read,
    read_file,
    remove,
    remove_unfinished,
    reporting,
    sync_folder,
    write_file,
)
from hebm.store.json_shapes import ShapeError, parsed, shaped
from hebm.store.tensor_files import Seal, decode, seal, write

logger = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"
DIGEST = "manifest.sha256"
DAMAGED = "damaged-"
"""Prefix of a damaged checkpoint that a run set aside."""

_FOLDER = re.compile(r"step-(\d{8,})(?:-(\d+))?")
_STEM = re.compile(r"\w[\w.-]*", re.ASCII)


@attrs.frozen(eq=False)
class Checkpoint:
    """All that a run needs to resume bit for bit.

    Arguments:
        phase: name of the training phase.
        step: steps completed in this phase.
        total_step: steps completed over all phases; the name of the folder contains it.
        tensors: the tensors by file name without suffix ("backbone", "prior-ema", "optimizer-backbone"), then by name.
        state: small values that JSON preserves: string keys, lists (no tuples), finite numbers.
        path: the folder that it was loaded from.
    """

    phase: str
    step: int
    total_step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any] = attrs.field(factory=dict)
    path: Path | None = None


@attrs.frozen
class _Manifest:
    """The content of a checkpoint's `manifest.json`."""

    format: int
    run_id: str
    phase: str
    step: int
    total_step: int
    state: Mapping[str, Any]
    files: Mapping[str, Seal]

    def checkpoint(self, path: Path, tensors: Mapping[str, Mapping[str, Tensor]]) -> Checkpoint:
        return Checkpoint(self.phase, self.step, self.total_step, tensors, self.state, path)


# ---------------------------------------------------------------- saving


def save(folder: Path, checkpoint: Checkpoint, keep: int, run_id: str) -> Path:
    """Write a checkpoint durably, then remove older ones. The caller must hold the run's lock.

    Arguments:
        folder: the run's `checkpoints` folder; it is created if missing.
        checkpoint: the checkpoint to save. Tensors may share memory, have any stride and be on any device.
        keep: number of checkpoints to keep, including the new one; at least 2.
        run_id: the run's identity, from its manifest.

    Returns the new folder. Raises `CheckpointError` if it cannot be written (disk full, read-only, …) or contains
    values that safetensors or JSON cannot hold. Earlier checkpoints are then unchanged.
    """
    if keep < 2:
        raise CheckpointError(f"at least 2 checkpoints must be kept, got keep = {keep}")
    with reporting(f"save step {checkpoint.total_step} in {folder}"):
        _make_folder(folder)
        remove_unfinished(folder)
        target = _free_name(folder, checkpoint.total_step)
        temporary = folder / f"{TEMPORARY}{target.name}"
        try:
            temporary.mkdir()
            _write(temporary, checkpoint, run_id)
            os.rename(temporary, target)
        except Exception:
            discard(temporary)
            raise
        sync_folder(folder)
    logger.debug("wrote %s", target)
    with reporting(f"remove old checkpoints in {folder} ({target.name} is saved)"):
        _prune(folder, target, keep)
    return target


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True)
        sync_folder(folder.parent)


def _free_name(folder: Path, total_step: int) -> Path:
    taken = [_order(path)[1] for path in list_checkpoints(folder) if _order(path)[0] == total_step]
    suffix = f"-{max(taken) + 1}" if taken else ""
    return folder / f"step-{total_step:08d}{suffix}"


def _write(folder: Path, checkpoint: Checkpoint, run_id: str) -> None:
    seals: dict[str, Seal] = {}
    for stem, tensors in checkpoint.tensors.items():
        if not _STEM.fullmatch(stem):
            raise CheckpointError(f"{stem!r} is not a file name: use letters, digits, '_', '-' and '.'")
        seals[f"{stem}.safetensors"] = write(folder / f"{stem}.safetensors", tensors)
    manifest = _manifest(checkpoint, run_id, seals)
    write_file(folder / MANIFEST, manifest)
    write_file(folder / DIGEST, _digest(manifest))
    sync_folder(folder)


def _manifest(checkpoint: Checkpoint, run_id: str, seals: dict[str, Seal]) -> bytes:
    head = {"format": FORMAT, "run_id": run_id, "phase": checkpoint.phase}
    steps = {"step": checkpoint.step, "total_step": checkpoint.total_step}
    state = dict(checkpoint.state)
    try:
        text = json.dumps({**head, **steps, "state": state, "files": seals}, indent=1, allow_nan=False)
        unchanged = json.loads(text)["state"] == state
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the state to save is not JSON: {error}") from error
    if not unchanged:
        raise CheckpointError("JSON would change the state to save: use string keys, and lists instead of tuples")
    return text.encode()


def _digest(manifest: bytes) -> bytes:
    return f"{seal(manifest)['sha256']}  {MANIFEST}\n".encode()


def _prune(folder: Path, newest: Path, keep: int) -> None:
    """Remove old checkpoints. Each is renamed first, so that a kill leaves no half-removed checkpoint."""
    older = [path for path in list_checkpoints(folder) if _order(path) < _order(newest)]
    for path in older[: -(keep - 1)]:
        doomed = folder / f"{TEMPORARY}pruned-{path.name}"
        os.rename(path, doomed)
        remove(doomed)


# ---------------------------------------------------------------- loading


def list_checkpoints(folder: Path) -> list[Path]:
    """List the folders of a run's checkpoints, oldest first, including damaged ones. Raises `OSError`."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted((folder / name for name in names if _FOLDER.fullmatch(name)), key=_order)


def _order(path: Path) -> tuple[int, int]:
    """Return the total step and the number of times that it was saved before."""
    match = _FOLDER.fullmatch(path.name)
    return (int(match[1]), int(match[2] or 0)) if match else (-1, 0)


def load_latest(
    folder: Path, run_id: str | None, warn: Callable[[str], None], set_aside: bool = False
) -> Checkpoint | None:
    """Load the newest intact checkpoint; return None if none was ever saved.

    Arguments:
        folder: the run's `checkpoints` folder.
        run_id: load only checkpoints of this run; None loads any.
        warn: called with a message about each newer checkpoint that was skipped, with the file and the problem.
        set_aside: rename skipped checkpoints to `damaged-…`, so that they do not count among those to keep. The caller
            must then hold the lock.

    Raises `CheckpointError` with the problems of all checkpoints if none of them can be used, since a run must not
    silently start from scratch. Raises `UnreadableError` for a file that may be intact but cannot be read, for example
    without permission; an older checkpoint is not used in its place.
    """
    with reporting(f"read {folder}"):
        paths = list_checkpoints(folder)
    rejected: dict[Path, CheckpointError] = {}
    for path in reversed(paths):
        try:
            checkpoint = load(path, run_id)
        except UnreadableError as error:
            fix = f"make it readable, or remove {path} to go back to the checkpoint before it"
            raise UnreadableError(f"{error}; {fix}") from error
        except CheckpointError as error:
            if os.path.lexists(path):  # otherwise a running process just removed it
                rejected[path] = error
            continue
        _step_back(rejected, path, warn, set_aside)
        return checkpoint
    if rejected:
        raise CheckpointError(_none_usable(folder, rejected))
    return load_latest(folder, run_id, warn, set_aside) if paths else None


def _step_back(
    rejected: Mapping[Path, CheckpointError], used: Path, warn: Callable[[str], None], set_aside: bool
) -> None:
    for path, error in rejected.items():
        warn(f"checkpoint passed over: {error}; going back to {used.name}")
        if set_aside:
            with reporting(f"set {path} aside"):
                os.rename(path, _aside(path))


def _aside(path: Path) -> Path:
    free = path.with_name(DAMAGED + path.name)
    count = 1
    while os.path.lexists(free):
        free = path.with_name(f"{DAMAGED}{path.name}.{count}")
        count += 1
    return free


def _none_usable(folder: Path, rejected: Mapping[Path, CheckpointError]) -> str:
    reasons = "".join(f"\n  {error}" for error in rejected.values())
    fix = "put back a good copy, or remove the folder to start from the beginning"
    return f"no checkpoint in {folder} can be used:{reasons}\n{fix}"


def newest_head(folder: Path, run_id: str, passed_over: Callable[[str], None] = lambda _: None) -> Checkpoint | None:
    """Return the newest checkpoint of a run, or None. Only its manifest is read and verified, not its tensors.

    Arguments:
        folder: the run's `checkpoints` folder.
        run_id: the run's identity.
        passed_over: called with a message about each newer checkpoint with a damaged manifest. Loading the weights
            reports these, too.

    Raises `CheckpointError` if the folder cannot be read.
    """
    with reporting(f"read {folder}"):
        newest_first = list_checkpoints(folder)[::-1]
    for path in newest_first:
        try:
            manifest = _read_manifest(path)
            if not (complaints := _misplaced(path, manifest, run_id)):
                return manifest.checkpoint(path, {})
        except CheckpointError as error:
            complaints = [str(error)]
        passed_over(f"{path}: {'; '.join(complaints)}")
    return None


def load(path: Path, run_id: str | None = None) -> Checkpoint:
    """Load one checkpoint, with tensors on the CPU. Raises `CheckpointError` with all its problems."""
    try:
        checkpoint, complaints = _inspect(path, run_id)
    except UnreadableError as error:
        raise UnreadableError(f"{path}: {error}") from error
    if checkpoint is None:
        raise CheckpointError(f"{path}: {'; '.join(complaints)}")
    logger.debug("read %s", path)
    return checkpoint


def verify(path: Path, run_id: str | None = None) -> list[str]:
    """Return the problems of a checkpoint folder, with file names; empty if it is intact."""
    try:
        return _inspect(path, run_id)[1]
    except UnreadableError as error:
        return [str(error)]


def _inspect(path: Path, run_id: str | None) -> tuple[Checkpoint | None, list[str]]:
    """Return a checkpoint, or None and its problems. Raises `UnreadableError`."""
    try:
        manifest = _read_manifest(path)
        complaints = _misplaced(path, manifest, run_id)
        tensors: dict[str, dict[str, Tensor]] = {}
        for name, expected in manifest.files.items():
            stem = _stem(name)  # checked before opening a file of this name
            try:
                tensors[stem] = decode(path / name, expected)
            except UnreadableError:
                raise
            except CheckpointError as error:
                complaints.append(str(error))
        return (None if complaints else manifest.checkpoint(path, tensors)), complaints
    except UnreadableError:
        raise
    except CheckpointError as error:
        return None, [str(error)]


def _read_manifest(path: Path) -> _Manifest:
    try:
        data, digest = read_file(path / MANIFEST), read_file(path / DIGEST)
    except OSError as error:
        raise not_read(error, Path(error.filename)) from error
    if digest != _digest(data):
        raise CheckpointError(f"{MANIFEST} or {DIGEST} is damaged (the SHA-256 differs)")
    try:
        table = shaped(dict[str, Any], parsed(data))
        if table.get("format") != FORMAT:
            raise CheckpointError(f"{MANIFEST} has format {table.get('format')!r}, this hebm reads format {FORMAT}")
        manifest: _Manifest = shaped(_Manifest, table)
    except ShapeError as error:
        raise CheckpointError(f"{MANIFEST} was not written by hebm: {error}") from error
    return manifest


def _misplaced(path: Path, manifest: _Manifest, run_id: str | None) -> list[str]:
    complaints = []
    if run_id is not None and manifest.run_id != run_id:
        complaints.append(f"{MANIFEST} is of another run ({manifest.run_id!r}, this run is {run_id!r})")
    if _FOLDER.fullmatch(path.name) and _order(path)[0] != manifest.total_step:
        complaints.append(f"{MANIFEST} is of step {manifest.total_step}")
    return complaints


def _stem(name: str) -> str:
    """Return a file's name without its suffix. Raises `CheckpointError` for a name outside of the folder."""
    stem = name.removesuffix(".safetensors")
    if stem == name or not _STEM.fullmatch(stem):
        raise CheckpointError(f"{MANIFEST} lists {name!r}, which is not a file name of a checkpoint (NAME.safetensors)")
    return stem
