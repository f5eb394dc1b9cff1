"""Read and write files of tensors: safetensors bytes with their size and SHA-256.

safetensors detects a damaged header, but only the hash detects flipped bits in the data. A file is read once, and the
same bytes are hashed and parsed, so the file cannot change in between.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from hebm.errors import CheckpointError
from hebm.store.durable import not_read, read_file


class Seal(TypedDict):
    """A manifest's entry about a file: its size in bytes and its SHA-256 in lower-case hex."""

    size: int
    sha256: str


def seal(data: bytes) -> Seal:
    """Return the seal of these bytes."""
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def encode(tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Return named tensors of any shape, device and stride as safetensors bytes. Tensors may share memory.

    Arguments:
        tensors: the tensors by name.
        metadata: texts by key, stored in the file's header.

    Raises `CheckpointError` for tensors that safetensors cannot hold: sparse, quantised, meta and complex128 ones.
    """
    seen: set[int] = set()
    plain = {name: _plain(tensor, seen) for name, tensor in tensors.items()}
    try:
        if "__metadata__" in plain:
            raise ValueError("the format reserves the name __metadata__; rename this tensor")
        return safetensors.torch.save(plain, metadata)
    except (KeyError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"these tensors cannot be saved as safetensors: {error}") from error


def _plain(tensor: Tensor, seen: set[int]) -> Tensor:
    """Return the tensor contiguous and on the CPU, copied if an earlier tensor uses the same memory."""
    try:
        plain = tensor.detach().cpu().contiguous()
        memory = plain.untyped_storage().data_ptr()
    except (NotImplementedError, RuntimeError) as error:
        raise CheckpointError(f"a {tensor.layout} tensor on {tensor.device} cannot be saved: {error}") from error
    if memory in seen:
        return plain.clone()
    seen.add(memory)
    return plain


def read(path: Path, expected: Seal) -> bytes:
    """Read and verify the bytes of a file. Raises `CheckpointError` with the file name."""
    try:
        data = read_file(path)
    except OSError as error:
        raise not_read(error, path) from error
    if len(data) != expected["size"]:
        raise CheckpointError(f"{path.name} is damaged: it has {len(data)} bytes, expected {expected['size']}")
    if seal(data)["sha256"] != expected["sha256"]:
        raise CheckpointError(f"{path.name} is damaged or from another checkpoint (its SHA-256 differs)")
    return data


def decode(path: Path, expected: Seal) -> dict[str, Tensor]:
    """Return the tensors of a file, on the CPU. Raises `CheckpointError` with the file name if it is damaged."""
    data = read(path, expected)
    try:
        return safetensors.torch.load(data)
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} is not a safetensors file ({error})") from error


def digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the tensors' names, shapes, types and values in lower-case hex."""
    whole = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        whole.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
        whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()
