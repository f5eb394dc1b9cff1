"""Log metrics: one JSON object per line, appended; and small JSON files written in one step.

NaN and infinities are written as null: they are not JSON, and other languages' readers refuse them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hebm.errors import CheckpointError
from hebm.store.durable import read_file, replace_file, reporting
from hebm.store.json_shapes import ShapeError, below, parsed, shaped

STEP = "total_step"
"""Key that every record of a log has: the steps completed over all phases."""

_KINDS: Mapping[str, type] = {STEP: int, "step": int, "phase": str}


def finite(value: Any) -> Any:
    """Return the same value with null for every NaN or infinity, tuples as lists, keys as strings."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(item) for item in value]
    return value


def write_json_atomic(path: Path, obj: Any) -> None:
    """Write or replace a JSON file: a reader sees the old one or the new one. Raises `CheckpointError`."""
    with reporting(f"write {path}"):
        replace_file(path, json_bytes(obj))


def json_bytes(obj: Any) -> bytes:
    """Return a value as the JSON that hebm writes to files."""
    return (json.dumps(finite(obj), indent=2, allow_nan=False) + "\n").encode()


class MetricsLog:
    """`metrics.jsonl`: a record per logged step, in the order of training.

    After a resume the log equals an uninterrupted run's: call `truncate_after` with the checkpoint's step before the
    first `append`.

    Arguments:
        path: the file; made by the first `append`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record and hand it to the system at once: a kill loses no earlier one.

        Raises `ValueError` for a record without `total_step`, or with anything but text as its phase and numbers;
        `CheckpointError` if it cannot be written.
        """
        line = json.dumps(_record(finite(record)), allow_nan=False) + "\n"
        with reporting(f"write {self.path}"), open(self.path, "ab") as file:
            file.write(line.encode())

    def sync(self) -> None:
        """Wait until the log is on the disk, as a checkpoint is: for a power cut right after saving one."""
        with reporting(f"write {self.path}"):
            if self.path.exists():
                with open(self.path, "ab") as file:
                    os.fsync(file.fileno())

    def truncate_after(self, total_step: int) -> None:
        """Drop the records of later steps and a half-written last line; the file is replaced in one step."""
        kept = [record for record in self.read() if record[STEP] <= total_step]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        with reporting(f"write {self.path}"):
            if self.path.exists() and self.path.read_bytes() != text.encode():
                replace_file(self.path, text.encode())

    def read(self) -> list[dict[str, Any]]:
        """Read all records, without a half-written one that a kill left at the end.

        Raises `CheckpointError` naming line and key of a record of another shape, or of a damaged one before good ones.
        """
        with reporting(f"read {self.path}"):
            lines = read_file(self.path).split(b"\n") if os.path.lexists(self.path) else []
        whole = lines[:-1]  # behind the last newline there is nothing, or a half-written line
        while whole and not _is_json(whole[-1]):  # a power cut may leave zeros there
            whole.pop()
        return [self._parsed(number, line) for number, line in enumerate(whole, 1)]

    def _parsed(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            return _record(parsed(line))
        except ShapeError as error:
            what = "is not a record of a log"
            raise CheckpointError(f"{self.path}:{number}: {what}: {error}; delete this line") from error


def _is_json(line: bytes) -> bool:
    try:
        parsed(line)
    except ShapeError:
        return False
    return True


def _record(value: Any) -> dict[str, Any]:
    """Return a record. Raises `ShapeError` unless steps are whole, the phase is text and the rest are numbers or null.

    Numbers are not converted, so that a log that is written again is the same, byte for byte.
    """
    record: dict[str, Any] = shaped(dict[str, Any], value)
    if STEP not in record:
        raise ShapeError(f"{STEP} is missing")
    for key, entry in record.items():
        kind = _KINDS.get(key)
        if kind is not None or type(entry) not in (float, int, bool, type(None)):
            shaped(kind or float | None, entry, below("", key))
    return record
