"""JSON files that contain their own checksum, for files that `SHA256SUMS` does not cover."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hebm.store.json_shapes import ShapeError
from hebm.store.metrics import finite, json_bytes, write_json_atomic

KEY = "sha256"
"""The key of the checksum, which covers the content without this key."""


def write_summed(path: Path, table: Mapping[str, Any]) -> None:
    """Write or replace a JSON file with its checksum. Raises `CheckpointError`."""
    content = finite(table)
    write_json_atomic(path, {**content, KEY: _sum(content)})


def without_sum(table: Any) -> Any:
    """Return the content of a file without its checksum."""
    return {key: value for key, value in table.items() if key != KEY} if isinstance(table, dict) else table


def require_own_sum(table: dict[str, Any]) -> None:
    """Raise `ShapeError` if the content does not match its checksum. A file without one is not checked."""
    given = table.get(KEY)
    if given is not None and given != _sum(without_sum(table)):
        raise ShapeError(f"its content differs from its {KEY}")


def _sum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json_bytes(content)).hexdigest()
