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
from hebm.store.durable import replace_file, reporting

STEP = "total_step"
"""Key that every record of a log has: the steps completed over all phases."""


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

        Raises `ValueError` if it has no `total_step`, `CheckpointError` if it cannot be written.
        """
        if not isinstance(record.get(STEP), int):
            raise ValueError(f"a record needs an integer {STEP!r}, got {dict(record)!r}")
        line = json.dumps(finite(record), allow_nan=False) + "\n"
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

        Raises `CheckpointError` naming the line if one between good ones is damaged.
        """
        with reporting(f"read {self.path}"):
            lines = self.path.read_bytes().split(b"\n") if self.path.exists() else []
        whole = lines[:-1]  # behind the last newline there is nothing, or a half-written line
        records = [_parse(line) for line in whole]
        while records and records[-1] is None:
            records.pop()
        for number, record in enumerate(records, 1):
            if record is None:
                raise CheckpointError(f"{self.path}:{number}: is not a record of a log; delete this line")
        return [record for record in records if record is not None]


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and all(map(_fits, record.items())) and STEP in record else None


def _fits(item: tuple[str, Any]) -> bool:
    """Return whether an entry has its key's type: a phase is text, steps are whole, all others are not text."""
    key, value = item
    if key in (STEP, "step"):
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, str) == (key == "phase")
