"""Log metrics as one JSON object per line, and write small JSON files in one step.

NaN and infinities are written as null, since they are not valid JSON.
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
"""The key of every record with the number of steps completed over all phases."""

_KINDS: Mapping[str, type] = {STEP: int, "step": int, "phase": str}


def finite(value: Any) -> Any:
    """Return the value with None for NaN and infinities, lists for tuples, and strings as keys."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(item) for item in value]
    return value


def write_json_atomic(path: Path, obj: Any) -> None:
    """Write or replace a JSON file in one step. Raises `CheckpointError`."""
    with reporting(f"write {path}"):
        replace_file(path, json_bytes(obj))


def json_bytes(obj: Any) -> bytes:
    """Return a value as JSON in the format of hebm's files."""
    return (json.dumps(finite(obj), indent=2, allow_nan=False) + "\n").encode()


class MetricsLog:
    """The log `metrics.jsonl`, with one record per logged step in the order of training.

    After a resume, call `truncate_after` with the checkpoint's step before the first `append`, so that the log equals
    that of an uninterrupted run.

    Arguments:
        path: the file; the first `append` creates it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: Mapping[str, Any]) -> None:
        """Append a record and write it immediately, so that a kill loses no earlier record.

        Raises `ValueError` for a record without `total_step`, or with values other than numbers and a text as phase,
        and `CheckpointError` if it cannot be written.
        """
        line = json.dumps(_record(finite(record)), allow_nan=False) + "\n"
        with reporting(f"write {self.path}"), open(self.path, "ab") as file:
            file.write(line.encode())

    def sync(self) -> None:
        """Wait until the log is on disk, so that it survives a power cut like a checkpoint."""
        with reporting(f"write {self.path}"):
            if self.path.exists():
                with open(self.path, "ab") as file:
                    os.fsync(file.fileno())

    def truncate_after(self, total_step: int) -> None:
        """Remove records of later steps and an unfinished last line, in one step."""
        kept = [record for record in self.read() if record[STEP] <= total_step]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        with reporting(f"write {self.path}"):
            if self.path.exists() and self.path.read_bytes() != text.encode():
                replace_file(self.path, text.encode())

    def read(self) -> list[dict[str, Any]]:
        """Return all records, without an unfinished one at the end.

        Raises `CheckpointError` with line and key of a record that does not fit, or of a damaged record before good
        ones.
        """
        with reporting(f"read {self.path}"):
            lines = read_file(self.path).split(b"\n") if os.path.lexists(self.path) else []
        whole = lines[:-1]  # after the last newline is nothing, or an unfinished line
        while whole and not _is_json(whole[-1]):  # a power cut may leave zeros
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
    """Return the record. Raises `ShapeError` for steps that are not integers or other values of the wrong type.

    The phase must be text, and all other values numbers or null. Numbers are not converted, so that rewriting a log
    does not change a byte.
    """
    record: dict[str, Any] = shaped(dict[str, Any], value)
    if STEP not in record:
        raise ShapeError(f"{STEP} is missing")
    for key, entry in record.items():
        kind = _KINDS.get(key)
        if kind is not None or type(entry) not in (float, int, bool, type(None)):
            shaped(kind or float | None, entry, below("", key))
    return record
