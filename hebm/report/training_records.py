"""Read the log of a run's training, with a warning if a part of it is lost."""

from __future__ import annotations

import os
import warnings
from typing import Any

from hebm.errors import DataWarning
from hebm.store.metrics import STEP, MetricsLog
from hebm.stored_runs import StoredRun


def training_records(run: StoredRun) -> list[dict[str, Any]]:
    """Return the records of training. Warn if the log of a finished run ends before its last step.

    Raises `CheckpointError` for a malformed log.
    """
    log = run.folder.metrics_log
    records = MetricsLog(log).read()
    last = records[-1][STEP] if records else 0
    if os.path.lexists(log) and run.plan and run.reached().finished and last < (total := run.reached().total):
        said = f"{log} ends at step {last:,} of {total:,}: the rest of it is lost, in curves and in times of training"
        warnings.warn(said, DataWarning, stacklevel=2)
    return records
