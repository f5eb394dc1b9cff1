"""`SHA256SUMS`: checksums of `config.toml`, `manifest.json`, `metrics.json` and `evaluations/*.json` of a run.

`sha256sum -c SHA256SUMS` in the run folder checks the same files. Files are changed in three steps:

    1. write SHA256SUMS.pending    the sums that will hold after the change
    2. write or remove each file, each in one step
    3. rename SHA256SUMS.pending to SHA256SUMS

While `SHA256SUMS.pending` exists, a file may have either sum. So after a kill at any moment, each file has its old or
its new content, and neither counts as damage. A folder without `SHA256SUMS` is not a run yet.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from hebm.errors import CheckpointError
from hebm.store.durable import listed, read_file, replace_file, reporting, sync_folder

SUMS = "SHA256SUMS"
PENDING = "SHA256SUMS.pending"
CONFIG, MANIFEST, METRICS = COVERED = ("config.toml", "manifest.json", "metrics.json")

EVALUATIONS = "evaluations"
"""The folder of named evaluations. Each of its files, `evaluations/NAME.json`, is covered."""

Contents: TypeAlias = dict[str, bytes]
"""The content of each covered file that exists, by name."""

_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S+)")
_TRIES = 5


def read(folder: Path) -> Contents:
    """Read and verify the covered files of a run; return exactly the verified bytes.

    Raises `CheckpointError` with each file that differs from what hebm wrote, and what to do.
    """
    contents, changed = _inspect(folder)
    if changed:
        raise CheckpointError("\n".join(_complaint(folder, name, contents) for name in changed))
    return contents


def changed(folder: Path) -> list[str]:
    """Return the names of covered files that differ from what hebm wrote. Raises `CheckpointError`."""
    return _inspect(folder)[1]


def _inspect(folder: Path) -> tuple[Contents, list[str]]:
    """Return the contents and the names that do not match their sums; retry if another process has just written."""
    for _ in range(_TRIES):  # readers do not lock
        accepted, contents = _accepted(folder), _contents(folder)
        names = [name for name in _ordered({*COVERED, *contents}) if not _fits(name, contents, accepted)]
        if not names or _accepted(folder) == accepted:
            break
    return contents, names


def write(folder: Path, changes: Mapping[str, bytes | None]) -> None:
    """Write covered files, or remove those given as None, then write their sums. The caller must hold the lock.

    Arguments:
        folder: the run folder.
        changes: new contents by name, written in this order.

    Raises `CheckpointError` if a file cannot be written, or if another covered file was changed.
    """
    before: Contents = {}
    if (folder / SUMS).exists():
        before = read(folder)
        finish_pending(folder)
    after = {**before, **changes}
    with reporting(f"write {folder}"):
        replace_file(folder / PENDING, _text({name: data for name, data in after.items() if data is not None}))
        for name, data in changes.items():
            if data is None:
                (folder / name).unlink(missing_ok=True)
            else:
                (folder / name).parent.mkdir(exist_ok=True)
                replace_file(folder / name, data)
        sync_folder(folder)
        os.replace(folder / PENDING, folder / SUMS)
        sync_folder(folder)


def finish_pending(folder: Path) -> None:
    """Finish the change of a killed process. The caller must hold the lock. Raises `CheckpointError`."""
    if (folder / PENDING).exists():
        accept(folder, read(folder))


def accept(folder: Path, contents: Contents) -> None:
    """Write the sums of these contents, whatever the previous sums. Raises `CheckpointError`."""
    with reporting(f"write {folder / SUMS}"):
        replace_file(folder / SUMS, _text(contents))
        (folder / PENDING).unlink(missing_ok=True)
        sync_folder(folder)


def read_unverified(folder: Path) -> Contents:
    """Read the covered files without verifying them, to accept a change. Raises `CheckpointError`."""
    return _contents(folder)


def digest(data: bytes) -> str:
    """Return the SHA-256 of bytes in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def _fits(name: str, contents: Contents, accepted: tuple[Mapping[str, str], ...]) -> bool:
    """Return whether a file, or its absence, matches the sums. Results may always be removed."""
    if name not in contents:
        return _is_result(name) or any(name not in sums for sums in accepted)
    return any(sums.get(name) == digest(contents[name]) for sums in accepted)


def _accepted(folder: Path) -> tuple[Mapping[str, str], ...]:
    """Return the accepted sums: the current ones, and those of a pending change."""
    found = [_sums(folder / name) for name in (PENDING, SUMS)]
    return tuple(sums for sums in found if sums is not None)


def _sums(path: Path) -> Mapping[str, str] | None:
    with reporting(f"read {path}"):
        try:
            data = read_file(path)
        except FileNotFoundError:
            return None
    matches = [_LINE.fullmatch(line) for line in data.decode(errors="replace").split("\n")]
    return {match[2]: match[1] for match in matches if match}


def _is_result(name: str) -> bool:
    return name == METRICS or name not in COVERED


def evaluation_file(name: str) -> str:
    """Return the name of the covered file of a named evaluation."""
    return f"{EVALUATIONS}/{name}.json"


def evaluation_names(names: Iterable[str]) -> dict[str, str]:
    """Return the named evaluations among covered files, sorted: file by name of the evaluation."""
    found = (name for name in sorted(names) if name.startswith(f"{EVALUATIONS}/"))
    return {name.removeprefix(f"{EVALUATIONS}/").removesuffix(".json"): name for name in found}


def _ordered(names: Iterable[str]) -> list[str]:
    """Return names of covered files in the order of their lines: the three main files, then named evaluations."""
    every = set(names)
    return [*(name for name in COVERED if name in every), *sorted(every - {*COVERED})]


def _contents(folder: Path) -> Contents:
    contents = {}
    with reporting(f"read {folder / EVALUATIONS}"):
        named = [f"{EVALUATIONS}/{path.name}" for path in listed(folder / EVALUATIONS) if path.match("*.json")]
    for name in (*COVERED, *named):
        with reporting(f"read {folder / name}"):
            try:
                contents[name] = read_file(folder / name)
            except FileNotFoundError:
                if os.path.lexists(folder / name):  # a broken link is not a removed file
                    raise
    return contents


def _text(contents: Mapping[str, bytes]) -> bytes:
    return "".join(f"{digest(contents[name])}  {name}\n" for name in _ordered(contents)).encode()


def _complaint(folder: Path, name: str, contents: Contents) -> str:
    way = f"if the change was meant, accept it with `hebm verify {folder} --accept`"
    if name not in contents:
        return f"{folder / name} is missing; put back a good copy"
    again = ", or delete it and run `hebm evaluate` again" if _is_result(name) else ""
    found = f"was changed or damaged since hebm wrote it (its SHA-256 is not the one in {SUMS})"
    return f"{folder / name} {found}; put back a good copy{again}; {way}"
