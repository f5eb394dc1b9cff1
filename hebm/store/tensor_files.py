"""Read and write files of tensors in the safetensors format, with their size and SHA-256.

A file is 8 bytes with the length of a JSON header, the header, and the bytes of the tensors. It is written and hashed
tensor by tensor from the memory of the tensors, so writing needs no copy of them.

safetensors detects a damaged header, but only the hash detects flipped bits in the data. A file is read once, and the
same bytes are hashed and parsed, so the file cannot change in between.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor
from typing_extensions import Buffer

from hebm.errors import CheckpointError
from hebm.store.durable import not_read, read_file, write_parts

_NAMES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int16: "I16",
    torch.uint16: "U16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.uint32: "U32",
    torch.float32: "F32",
    torch.complex64: "C64",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.uint64: "U64",
}
"""Names of types in a header. A file holds the tensors in the opposite order, so that all of them are aligned."""

_RANKS = {dtype: -rank for rank, dtype in enumerate(_NAMES)}


class Seal(TypedDict):
    """A manifest's entry about a file: its size in bytes and its SHA-256 in lower-case hex."""

    size: int
    sha256: str


def seal(data: bytes) -> Seal:
    """Return the seal of these bytes."""
    return sealed((data,))


def sealed(parts: Iterable[Buffer]) -> Seal:
    """Return the seal of a file with these parts."""
    sha, size = hashlib.sha256(), 0
    for part in parts:
        sha.update(part)
        size += memoryview(part).nbytes
    return {"size": size, "sha256": sha.hexdigest()}


def write(path: Path, tensors: Mapping[str, Tensor]) -> Seal:
    """Write a new file of named tensors, wait until it is on the disk, and return its seal.

    The tensors must not change meanwhile: another thread hashes them, because this takes as long as writing.

    Raises `OSError`, and `CheckpointError` as `encoded` does.
    """
    hashed, written = encoded(tensors), encoded(tensors)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="hash") as thread:
        sealing = thread.submit(sealed, hashed)
        write_parts(path, written)
    return sealing.result()


def encoded(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Iterator[Buffer]:
    """Return the parts of a safetensors file: the header, then the bytes of each tensor.

    Arguments:
        tensors: the tensors by name, of any shape, device and stride. They may share memory.
        metadata: texts by key, stored in the header.

    Raises `CheckpointError` for tensors that safetensors cannot hold: sparse, quantised, meta and complex128 ones.
    """
    for name, tensor in tensors.items():
        _check(name, tensor)
    ordered = dict(sorted(tensors.items(), key=lambda item: (_RANKS[item[1].dtype], item[0])))
    header = _header(ordered, metadata)
    return itertools.chain([header], map(_content, ordered.values()))


def _check(name: str, tensor: Tensor) -> None:
    kind = tensor.dtype if tensor.layout is torch.strided else tensor.layout
    if tensor.layout is not torch.strided or tensor.dtype not in _NAMES or tensor.is_meta:
        raise CheckpointError(f"{name!r} cannot be saved as safetensors: it is a {kind} tensor on {tensor.device}")
    if name == "__metadata__":
        raise CheckpointError(f"{name!r} cannot be saved as safetensors: the format reserves this name; use another")


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None) -> bytes:
    """Return the length of the header and the header, padded with spaces to a multiple of 8 bytes."""
    table: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        table[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    try:
        text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise CheckpointError(f"a name cannot be saved as safetensors: {error}") from error
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _content(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor in C order; they are copied only if they lie elsewhere or in another order."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


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
        whole.update(_content(tensor))
    return whole.hexdigest()
