"""Split the training time of a run into that of the backbone and that of the prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hebm.report.training_records import training_records
from hebm.store.metrics import STEP
from hebm.stored_runs import StoredRun

_RATE = "learning_rate_"
"""Prefix of the key of a module's learning rate, which is logged while the module is trained."""


class TrainingSeconds(NamedTuple):
    """Training time in seconds.

    Arguments:
        backbone: time in the run that trained it; None if unknown, or if both were trained together.
        prior: time of the prior; None likewise.
    """

    backbone: float | None
    prior: float | None


def training_seconds(run: StoredRun, origin: StoredRun | None) -> TrainingSeconds:
    """Split a run's training time.

    Arguments:
        run: the run that trained the prior.
        origin: the run that trained the backbone; None if it is the same run or unknown.
    """
    own = _split(run)
    if run.backbone_from is None:
        return own
    return TrainingSeconds(None if origin is None else _split(origin).backbone, own.prior)


def _split(run: StoredRun) -> TrainingSeconds:
    """Divide a run's training time in proportion to the logged times of its phases."""
    logged = _logged(training_records(run))
    total = None if run.results is None else run.results.seconds_training
    if logged is None or "both" in logged:
        return TrainingSeconds(None, None)
    whole = sum(logged.values())
    scale = total / whole if total is not None and whole > 0 else 1.0
    return TrainingSeconds(*(scale * logged.get(name, 0.0) for name in ("backbone", "prior")))


def _logged(records: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
    """Return the logged seconds of the backbone, of the prior and of both together; None if the log lacks speeds."""
    found: dict[str, float] = {}
    reached = 0
    for record in records:
        speed = record.get("steps_per_second")
        if not isinstance(speed, (int, float)) or speed <= 0:
            return None
        trained = [name for name in ("backbone", "prior") if _RATE + name in record]
        which = "both" if len(trained) > 1 else "".join(trained)
        found[which] = found.get(which, 0.0) + (record[STEP] - reached) / speed
        reached = record[STEP]
    return found or None
