"""Read and write a trained model as one safetensors file.

The tensors are the weights, under "backbone." and "prior."; the file's metadata has one entry, "hebm", a JSON table:

    format      1
    experiment  the whole configuration as TOML: the recipes, and how images are read
    images      shape, classes and attributes of the images
    plugins     versions of the distributions of its components
    sha256      checksum of all weights, since safetensors does not detect flipped bits
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from hebm.errors import CheckpointError
from hebm.interfaces import ImageSpec
from hebm.store.durable import replace_parts, reporting
from hebm.store.json_shapes import ShapeError, damaged, parsed, shaped
from hebm.store.provenance import describe_images, versions_of
from hebm.store.tensor_files import encoded

FORMAT = 1
"""The version of the format. It increases if the meaning of a file, or of the model read from it, changes."""

_KEY = "hebm"


@attrs.frozen(eq=False)
class ModelFile:
    """The content of a model file.

    Arguments:
        experiment: the configuration as TOML.
        images: shape and classes of the images.
        weights: the weights by name, "backbone.…" and "prior.…".
        plugins: the distributions of the model's components.
    """

    experiment: str
    images: ImageSpec
    weights: Mapping[str, Tensor]
    plugins: Iterable[str] = ()


@attrs.frozen
class _Metadata:
    """The table in a file's metadata."""

    format: int
    experiment: str
    images: ImageSpec
    plugins: Mapping[str, str]
    sha256: str


def write_model_file(path: Path, content: ModelFile) -> None:
    """Write or replace a model file in one step. Raises `CheckpointError` if it cannot be written."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in content.weights.items()}
    table = {
        "format": FORMAT,
        "experiment": content.experiment,
        "images": describe_images(content.images),
        "plugins": versions_of(content.plugins),
        "sha256": _digest(weights),
    }
    parts = encoded(weights, {_KEY: json.dumps(table)})
    with reporting(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_parts(path, parts)


def read_model_file(path: Path) -> ModelFile:
    """Read a model file. Raises `CheckpointError` if it is not one, is damaged, or has another format."""
    with reporting(f"read {path}"):
        _require_file(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = str((file.metadata() or {}).get(_KEY, "null"))
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is not a safetensors file, or is damaged ({error}); {_FIX}") from error
    table = _table(path, metadata)
    if table.get("sha256") != _digest(weights):
        raise CheckpointError(f"{path} is damaged: the SHA-256 of its weights differs; put back a good copy")
    with damaged(path, "put back a good copy"):
        content = shaped(_Metadata, table)
        return ModelFile(content.experiment, content.images, weights, tuple(content.plugins))


def _table(path: Path, metadata: str) -> dict[str, Any]:
    """Return the table in a file's metadata. Raises `CheckpointError` if it has none, or another format."""
    try:
        found: dict[str, Any] = shaped(dict[str, Any], parsed(metadata))
    except ShapeError as error:
        raise CheckpointError(f"{path} is not a model's file: its metadata has no table {_KEY!r}; {_FIX}") from error
    if found.get("format") != FORMAT:
        written = found.get("format")
        raise CheckpointError(
            f"{path} has model format {written!r}, this hebm reads format {FORMAT}; use the version that wrote it"
        )
    return found


_FIX = "give a file that model.save wrote"


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; open a run with hebm.open_run({str(path)!r}).model")
    if path.suffix == ".toml":
        raise CheckpointError(f"{path} is a configuration; read it with hebm.Experiment.load({str(path)!r})")
    if not path.is_file():
        found = "is not a regular file" if path.exists() else "does not exist"
        raise CheckpointError(f"{path} {found}; {_FIX}")


def _digest(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and bytes of the weights, sorted by name."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return sha.hexdigest()
