"""Store adapted step sizes in a file of the run, so that a reopened model need not adapt again.

Adapted step sizes depend on the weights, the configuration of backbone and prior, the versions and the device. The file
holds a hash of all these. A file that is damaged or has another hash is ignored and replaced.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import nn

from hebm.adaptation import Adaptation
from hebm.store.durable import read_file, replace_file
from hebm.store.json_shapes import ShapeError, parsed, shaped
from hebm.store.tensor_files import digest
from hebm.transitions import MCMC, Transition

logger = logging.getLogger(__name__)


@attrs.frozen
class _Kept:
    """The content of the file: step size and acceptance of each transition, and the hash of what they depend on."""

    key: str
    found: Mapping[str, tuple[float, float]]


@attrs.frozen
class KeptAdaptations:
    """The file with the adaptations of one model.

    Arguments:
        path: the path of the file.
        identity: configuration and versions, on which adaptations depend, as JSON values.
    """

    path: Path
    identity: Mapping[str, Any]

    def key(
        self, device: torch.device, dtype: torch.dtype, modules: Sequence[nn.Module], listed: Sequence[Transition]
    ) -> str:
        """Return the hash of everything that adaptations depend on.

        Arguments:
            device: the device that computes.
            dtype: the floating-point type.
            modules: the modules with the weights.
            listed: all transitions of the prior.
        """
        weights = [digest(module.state_dict()) for module in modules]
        samplers = {chain.name: repr(chain.sampler.plain) for chain in listed if isinstance(chain, MCMC)}
        where = [device.type, str(dtype), torch.__version__]
        whole = json.dumps([self.identity, weights, samplers, where], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()

    def read(self, key: str) -> dict[str, Adaptation]:
        """Return the adaptations that were stored under this key, by transition; empty if none were."""
        try:
            kept: _Kept = shaped(_Kept, parsed(read_file(self.path)))
        except FileNotFoundError:
            return {}
        except (OSError, ShapeError) as error:
            logger.warning("%s is damaged, step sizes are adapted again: %s", self.path, error)
            return {}
        return {name: Adaptation(*found) for name, found in kept.found.items()} if kept.key == key else {}

    def write(self, key: str, found: Mapping[str, Adaptation]) -> None:
        """Replace the file. If the folder cannot be written, log a warning, since this only costs time."""
        try:
            replace_file(self.path, json.dumps({"key": key, "found": found}, indent=1).encode())
        except OSError as error:
            logger.warning("adapted step sizes cannot be stored in %s: %s", self.path, error)
