"""Checkpoints: folders that are whole or not there.

    checkpoints/step-00001234/    backbone.safetensors, prior.safetensors, …   tensors by name
                                  manifest.json      format, phase, step, total_step, state, run id, seal of every file
                                  manifest.sha256    the manifest's own hash, as `sha256sum -c` reads it

`save` writes to a temporary folder, fsyncs every file and the folder, renames, fsyncs the parent, and only then
removes older ones. `load_latest` takes the newest whose hashes all verify and says so when it had to step back.
No pickle is written or read. A step saved again (the first step of a phase is the last of the one before) gets a
suffix, `step-00001234-1`, which counts as newer: nothing that is whole is ever replaced in place.
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
from hebm.store.tensor_files import Seal, decode, encode, seal

logger = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"
DIGEST = "manifest.sha256"
DAMAGED = "damaged-"
"""Prefix of a checkpoint that a run set aside because it does not verify."""

_FOLDER = re.compile(r"step-(\d{8,})(?:-(\d+))?")
_STEM = re.compile(r"\w[\w.-]*", re.ASCII)


@attrs.frozen(eq=False)
class Checkpoint:
    """All that a run needs to go on bit for bit.

    Arguments:
        phase: name of the training phase.
        step: steps completed in this phase.
        total_step: steps completed over all phases; it names the folder.
        tensors: by file name without suffix ("backbone", "prior-ema", "optimizer-backbone"), then by name.
        state: small things that JSON gives back unchanged: string keys, lists (no tuples), finite numbers.
        path: where it was loaded from.
    """

    phase: str
    step: int
    total_step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any] = attrs.field(factory=dict)
    path: Path | None = None


@attrs.frozen
class _Manifest:
    """What `manifest.json` of a checkpoint holds."""

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
    """Write a checkpoint durably, then remove older ones. Only for who holds the run's lock.

    Arguments:
        folder: the run's `checkpoints` folder; made if it is missing.
        checkpoint: what to save. Tensors may share memory, have any stride and live on any device.
        keep: how many checkpoints to leave, the new one included; at least 2.
        run_id: the run's identity, from its manifest.

    Returns the new folder. Raises `CheckpointError` if it cannot be written (disk full, read-only, …) or holds what
    safetensors or JSON cannot; the checkpoints before it are then untouched.
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
        except (OSError, CheckpointError):
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
        data = encode(tensors)
        seals[f"{stem}.safetensors"] = seal(data)
        write_file(folder / f"{stem}.safetensors", data)
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
    """Remove old checkpoints, each after one rename: a kill in between leaves no half-removed checkpoint."""
    older = [path for path in list_checkpoints(folder) if _order(path) < _order(newest)]
    for path in older[: -(keep - 1)]:
        doomed = folder / f"{TEMPORARY}pruned-{path.name}"
        os.rename(path, doomed)
        remove(doomed)


# ---------------------------------------------------------------- loading


def list_checkpoints(folder: Path) -> list[Path]:
    """List the folders of a run's checkpoints, oldest first, damaged ones included. Raises `OSError`."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted((folder / name for name in names if _FOLDER.fullmatch(name)), key=_order)


def _order(path: Path) -> tuple[int, int]:
    """Return (total step, how often that step had been saved before)."""
    match = _FOLDER.fullmatch(path.name)
    return (int(match[1]), int(match[2] or 0)) if match else (-1, 0)


def load_latest(
    folder: Path, run_id: str | None, warn: Callable[[str], None], set_aside: bool = False
) -> Checkpoint | None:
    """Load the newest checkpoint whose hashes verify; return None if none was ever saved.

    Arguments:
        folder: the run's `checkpoints` folder.
        run_id: only checkpoints of this run are taken; None takes any.
        warn: told of every newer checkpoint that had to be passed over, with the file and what is wrong with it.
        set_aside: rename those to `damaged-…`, so that they are not counted among those to keep. Only for the run
            that holds the lock.

    Raises `CheckpointError`, listing what is wrong with each, if there are checkpoints but none can be used: a run
    never starts from scratch by itself. A file that may be whole but cannot be read, without permission for example, is
    an `UnreadableError`: nothing older is used in its place.
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
            if os.path.lexists(path):  # else a run at work has just pruned it: gone, not damaged
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
    """Return the newest checkpoint of a run, or None; its manifest alone is read and verified, no tensors.

    Arguments:
        folder: the run's `checkpoints` folder.
        run_id: of the run.
        passed_over: told of every newer checkpoint whose manifest is damaged; whoever loads the weights is told too.

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
    """Load one checkpoint, its tensors on the CPU. Raises `CheckpointError` with all that is wrong with it."""
    try:
        checkpoint, complaints = _inspect(path, run_id)
    except UnreadableError as error:
        raise UnreadableError(f"{path}: {error}") from error
    if checkpoint is None:
        raise CheckpointError(f"{path}: {'; '.join(complaints)}")
    logger.debug("read %s", path)
    return checkpoint


def verify(path: Path, run_id: str | None = None) -> list[str]:
    """Return what is wrong with a checkpoint folder, naming the files; empty if nothing is."""
    try:
        return _inspect(path, run_id)[1]
    except UnreadableError as error:
        return [str(error)]


def _inspect(path: Path, run_id: str | None) -> tuple[Checkpoint | None, list[str]]:
    """Return a checkpoint, or None and what is wrong with it. Raises `UnreadableError`."""
    try:
        manifest = _read_manifest(path)
        complaints = _misplaced(path, manifest, run_id)
        tensors: dict[str, dict[str, Tensor]] = {}
        for name, expected in manifest.files.items():
            stem = _stem(name)  # before anything is opened by that name
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
    """Return a file's name without its suffix. Raises `CheckpointError` for a name that leads out of the folder."""
    stem = name.removesuffix(".safetensors")
    if stem == name or not _STEM.fullmatch(stem):
        raise CheckpointError(f"{MANIFEST} names {name!r}; no file of a checkpoint has such a name")
    return stem
