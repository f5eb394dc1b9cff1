"""Compute the metrics of a run."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from hebm.errors import PluginError
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.kinds import PRIOR
from hebm.evaluation.metric import Key, Measurement, MetricRecipe
from hebm.evaluation.metrics_file import Results

_PACKAGES = ("hebm", "torch", "torchvision", "torch-fidelity")


def evaluate(evaluation: Evaluation) -> Results:
    """Compute every metric of the settings, and the means of what the prior reports of its draws, as details.

    Raises `PluginError` if a metric returns anything but measurements, or two of them contradict each other;
    `NonFiniteError` if images are not finite.
    """
    started = time.perf_counter()
    found: dict[Key, Measurement] = {}
    for metric in evaluation.settings.metrics:
        for measurement in _computed(metric, evaluation):
            _add(found, measurement, metric)
    _require_same_title(found.values())
    for measurement in _drawing(evaluation):
        found.setdefault(measurement.key, measurement)
    conditions = _conditions(evaluation)
    return Results(tuple(found.values()), conditions, round(time.perf_counter() - started, 3))


def _computed(metric: MetricRecipe, evaluation: Evaluation) -> list[Measurement]:
    returned: Any = metric.compute(evaluation)
    found = list(returned) if isinstance(returned, Iterable) else None
    if found is None or not all(isinstance(item, Measurement) for item in found):
        raise PluginError(
            f"metric {type(metric).__name__}: compute returned {returned!r}; it must return a list of "
            "hebm.evaluation.metric.Measurement"
        )
    return found


def _add(found: dict[Key, Measurement], measurement: Measurement, metric: MetricRecipe) -> None:
    first = found.setdefault(measurement.key, measurement)
    new, old = measurement.to_json(), first.to_json()
    differing = [f"{field} = {new[field]!r}, not {old[field]!r}" for field in new if new[field] != old[field]]
    if differing:
        which = " ".join(str(part) for part in measurement.key if part)
        raise PluginError(
            f"metric {type(metric).__name__} returns {which} with {'; '.join(differing)} as returned before; "
            "give it another name, or leave one metric out of evaluate.metrics"
        )


def _require_same_title(found: Iterable[Measurement]) -> None:
    """Raise `PluginError` for measurements of one name that a table cannot show in one row."""
    titles: dict[str, tuple[Any, ...]] = {}
    for measurement in found:
        titled = (measurement.title, measurement.unit, measurement.better)
        first = titles.setdefault(measurement.name, titled)
        if first != titled:
            raise PluginError(
                f"measurements named {measurement.name!r} must have the same title, unit and better direction; "
                f"these have {first} and {titled}: give them different names"
            )


def _drawing(evaluation: Evaluation) -> list[Measurement]:
    """Return what the prior reports of its draws, such as an effective sample size, and adapted step sizes."""
    found = [
        Measurement(_key(f"draws-{name}"), value, f"draws: {name.replace('_', ' ')}", kind=PRIOR, detail=True)
        for name, value in evaluation.diagnostics().items()
    ]
    for part, (h, acceptance) in evaluation.model.adaptations.items():
        found += [
            Measurement("draws-step-size", h, "draws: adapted step size h", kind=PRIOR, part=part, detail=True),
            Measurement("draws-acceptance", acceptance, "draws: acceptance", kind=PRIOR, part=part, detail=True),
        ]
    return found


def _key(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower())


def _conditions(evaluation: Evaluation) -> dict[str, Any]:
    settings = evaluation.settings
    return {
        "extractors": {name: extractor.describe() for name, extractor in evaluation.extractors.items()},
        "n": settings.samples,
        "n_reference": len(evaluation.references),
        "split": settings.split,
        "decode": settings.decode,
        "chain_steps": settings.chain_steps,
        "start_proposals": settings.start_proposals,
        "after": settings.after,
        "range": "[-1, 1] as 8-bit pixels",
        "seed": evaluation.model.seed,
        "versions": {package: _version(package) for package in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
