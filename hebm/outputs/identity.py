"""Identify everything that a model's outputs depend on, for journals and messages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

from hebm.model import Model
from hebm.placement import device_of
from hebm.store.tensor_files import digest

_SHOWN = 16


def identified(model: Model, identity: Mapping[str, Any]) -> dict[str, str]:
    """Return hashes of a model's weights and configuration, with versions and device.

    Arguments:
        model: the model on its device.
        identity: the run's `StoredRun.identity`.
    """
    parts = {name: part for name, part in identity.items() if name != "versions"}
    settings = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    versions = {**identity["versions"], "torch": torch.__version__}
    return {
        "weights": digest(model.state_dict())[:_SHOWN],
        "model settings": settings[:_SHOWN],
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
        "device": device_of(model).type,
    }
