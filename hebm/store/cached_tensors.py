"""Cache files of tensors. Each holds a hash of its content, and damaged files count as missing."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import safetensors
from torch import Tensor

from hebm.store.durable import replace_parts
from hebm.store.tensor_files import digest, encoded

logger = logging.getLogger(__name__)

_SHA256 = "sha256"


def write_cached(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str] | None = None) -> bool:
    """Write tensors, notes and a hash of both to a file in one step; return whether this succeeded.

    If the folder cannot be written, this logs a warning, since the tensors can be computed again.
    """
    notes = notes or {}
    content = encoded(tensors, {**notes, _SHA256: _hash(tensors, notes)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_parts(path, content, sync=False)
    except OSError as error:
        logger.warning("%s cannot be stored and will be computed again: %s", path, error)
        return False
    logger.debug("wrote %s", path)
    return True


def read_cached(path: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Return tensors and notes of a file; None if it is missing or damaged."""
    try:
        if not path.is_file():
            return None
        with safetensors.safe_open(str(path), framework="pt") as file:
            notes = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError:  # another process just removed it
        return None
    except (OSError, safetensors.SafetensorError) as error:
        logger.warning("%s is damaged and will be computed again: %s", path, error)
        return None
    if notes.pop(_SHA256, None) != _hash(tensors, notes):
        logger.warning("%s is damaged and will be computed again: its content does not fit its hash", path)
        return None
    logger.debug("read %s", path)
    return tensors, notes


def _hash(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> str:
    return hashlib.sha256((digest(tensors) + json.dumps(sorted(notes.items()))).encode()).hexdigest()
