"""Describe the versions, data and machine of a run for its `manifest.json`."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import attrs
import torch

import hebm
from hebm.interfaces import ImageSpec
from hebm.store.json_shapes import shaped

_UNKNOWN_CODE = os.urandom(32)


def describe_run(plugins: Iterable[str], data: Any) -> dict[str, Any]:
    """Return the manifest of a run that starts now.

    The version of hebm is recorded, but not as a plugin's, since the run format determines which hebm can resume a run.

    Arguments:
        plugins: names of the distributions whose components the run uses.
        data: the data set's fingerprint, as JSON values.

    Raises `importlib.metadata.PackageNotFoundError` for a distribution that is not installed.
    """
    return {
        "hebm": hebm.__version__,
        "plugins": versions_of(plugins),
        "data": data,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hardware": _hardware(),
    }


def versions_of(distributions: Iterable[str]) -> dict[str, str]:
    """Return the versions of distributions except hebm, by name.

    Raises `importlib.metadata.PackageNotFoundError` for one that is not installed.
    """
    return {name: metadata.version(name) for name in sorted(set(distributions) - {"hebm"})}


def code_digest(classes: Iterable[type]) -> str:
    """Return the SHA-256 of the Python files of hebm and of the packages of `classes`.

    Versions do not distinguish states of a package under development. A class without a file, as in a notebook, gives
    another digest in each process.
    """
    whole = hashlib.sha256()
    for package in sorted({"hebm", *(cls.__module__.partition(".")[0] for cls in classes)}):
        files = _python_files(package)
        for path in files:
            whole.update(hashlib.sha256(path.read_bytes()).digest())
        if not files:
            whole.update(_UNKNOWN_CODE)
    return whole.hexdigest()


def _python_files(package: str) -> list[Path]:
    module = sys.modules.get(package)
    folders, file = getattr(module, "__path__", None), getattr(module, "__file__", None)
    if folders is not None:
        return [path for folder in folders for path in sorted(Path(folder).rglob("*.py"))]
    return [] if file is None else [Path(file)]


def describe_images(images: ImageSpec) -> dict[str, Any]:
    """Return the manifest's entry "images", as JSON values."""
    return {**attrs.asdict(images), "classes": list(images.classes), "attributes": list(images.attributes)}


def images_of(manifest: Mapping[str, Any]) -> ImageSpec:
    """Return the properties of the images in a manifest. Raises `ShapeError` for an entry that does not fit."""
    images: ImageSpec = shaped(ImageSpec, manifest.get("images"), "images")
    return images


def _hardware() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {"machine": platform.machine(), "cpus": os.cpu_count(), "gpus": gpus}
