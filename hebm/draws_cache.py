"""Open the cache of posterior draws that runs share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hebm.config.experiment import Experiment
from hebm.config.paths import expanded
from hebm.config.writing import to_table
from hebm.store.row_cache import RowCache, Trial


def draws_cache(
    experiment: Experiment, manifest: Mapping[str, Any], device: torch.device, trial: Trial | None = None
) -> RowCache:
    """Return the cache of draws for this backbone, data, versions, precision and device.

    Arguments:
        experiment: the run's experiment.
        manifest: the run's manifest, with versions and fingerprints of the data.
        device: the device that computes draws.
        trial: stores nothing, but checks the free space and times rows.
    """
    run = experiment.run
    identity = {
        "backbone": to_table(experiment.backbone),
        "data": manifest["data"]["train"],
        "versions": {"hebm": manifest["hebm"], **manifest["plugins"]},
        "dtype": run.dtype,
        "device": device.type,
    }
    return RowCache(Path(expanded(run.cache_folder)) / "draws", run.cache_limit, identity, trial=trial)
