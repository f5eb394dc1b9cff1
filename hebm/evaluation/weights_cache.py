"""Cache weights that take time to train in a folder; damaged ones are trained again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors
from safetensors.torch import save
from torch import Tensor, nn

from hebm.store.tensor_files import digest

logger = logging.getLogger(__name__)


def _seal(state: Mapping[str, Tensor], notes: Mapping[str, str]) -> str:
    return hashlib.sha256((digest(state) + json.dumps(sorted(notes.items()))).encode()).hexdigest()


def save_weights(path: Path, net: nn.Module, notes: Mapping[str, str]) -> None:
    """Write weights with their hash and notes, under a temporary name first. A folder that refuses is only a loss."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    content = save(state, {**notes, "sha256": _seal(state, notes)})
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        logger.warning("%s is not kept and will be made again: %s", path, error)


def load_weights(path: Path, net: nn.Module) -> dict[str, str] | None:
    """Load weights into `net` and return their notes; None, with `net` unchanged, if they are missing or damaged."""
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            notes = dict(file.metadata() or {})
            state = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, safetensors.SafetensorError) as error:
        logger.warning("%s is damaged and is made again: %s", path, error)
        return None
    expected = {name: tensor.shape for name, tensor in net.state_dict().items()}
    if (
        notes.pop("sha256", None) != _seal(state, notes)
        or {name: tensor.shape for name, tensor in state.items()} != expected
    ):
        logger.warning("%s is damaged and is made again: its content does not fit its hash", path)
        return None
    net.load_state_dict(state)
    return notes
