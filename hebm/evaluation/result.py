"""Compute the metrics of an evaluation."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import attrs
import torch

from hebm.errors import HebmError, PluginError
from hebm.evaluation.evaluation import Evaluation
from hebm.evaluation.kinds import PRIOR
from hebm.evaluation.metric import Key, Measurement, MetricRecipe, called
from hebm.evaluation.metrics_file import Failure, Results
from hebm.memory import is_out_of_memory
from hebm.training.run_state import Stopped

_PACKAGES = ("hebm", "torch", "torchvision", "torch-fidelity")
_UNDEFINED = "undefined: the value that was computed is {}"


def evaluate(evaluation: Evaluation) -> Results:
    """Compute all metrics of the settings. Means of the prior's diagnostics are added as details.

    A metric fails if it raises an error, returns anything but measurements, or contradicts an earlier metric. The
    results then have the reason and all other metrics. With several processes the error is raised instead, because the
    other processes may be waiting.

    `KeyboardInterrupt` and `Stopped` are always raised.
    """
    started = time.perf_counter()
    found: dict[Key, Measurement] = {}
    failures = []
    for metric in evaluation.settings.metrics:
        try:
            found = _added(found, metric, _computed(metric, evaluation))
        except Stopped:
            raise
        except Exception as error:
            if evaluation.processes.world > 1:
                raise
            failures.append(_failure(metric, error, evaluation))
            _free(evaluation.model.device)
    for measurement in _drawing(evaluation):
        found.setdefault(measurement.key, measurement)
    seconds = round(time.perf_counter() - started, 3)
    return Results(tuple(found.values()), _conditions(evaluation), seconds, failures=tuple(failures))


def _computed(metric: MetricRecipe, evaluation: Evaluation) -> list[Measurement]:
    returned: Any = metric.compute(evaluation)
    found = list(returned) if isinstance(returned, Iterable) else None
    if found is None or not all(isinstance(item, Measurement) for item in found):
        raise PluginError(
            f"metric {type(metric).__name__}: compute returned {returned!r}; it must return a list of "
            "hebm.evaluation.metric.Measurement"
        )
    return [item if item.found or item.note else _undefined(item) for item in found]


def _undefined(measurement: Measurement) -> Measurement:
    """Add a note to a measurement without a value."""
    return attrs.evolve(measurement, note=_UNDEFINED.format(measurement.value))


# ---------------------------------------------------------------- metrics that failed


def _failure(metric: MetricRecipe, error: Exception, evaluation: Evaluation) -> Failure:
    return Failure(called(metric), _reason(error, evaluation), "".join(traceback.format_exception(error)))


def _reason(error: Exception, evaluation: Evaluation) -> str:
    """Return why a metric failed, in a sentence."""
    said = str(error).strip() or "no message"
    if is_out_of_memory(error) and not isinstance(error, HebmError):
        return (
            f"out of memory ({said.splitlines()[0]}); use a smaller evaluate.batch_size than {evaluation.rows}, or "
            f"fewer evaluate.samples than {evaluation.settings.samples}"
        )
    return said if isinstance(error, HebmError) else f"{type(error).__name__}: {said.splitlines()[0]}"


def _free(device: torch.device) -> None:
    """Free GPU memory after a failed metric."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


# ---------------------------------------------------------------- metrics that agree


def _added(
    found: dict[Key, Measurement], metric: MetricRecipe, measurements: Iterable[Measurement]
) -> dict[Key, Measurement]:
    """Return the earlier measurements with a metric's added. Raises `PluginError` if they contradict each other."""
    both = dict(found)
    for measurement in measurements:
        _add(both, measurement, metric)
    _require_same_title(both.values())
    return both


def _add(found: dict[Key, Measurement], measurement: Measurement, metric: MetricRecipe) -> None:
    first = found.setdefault(measurement.key, measurement)
    new, old = measurement.to_json(), first.to_json()
    differing = [f"{field} = {new[field]!r}, not {old[field]!r}" for field in new if new[field] != old[field]]
    if differing:
        which = " ".join(str(part) for part in measurement.key if part)
        raise PluginError(
            f"metric {type(metric).__name__} returns {which} with {'; '.join(differing)} as returned before; "
            "rename it, or leave one metric out of evaluate.metrics"
        )


def _require_same_title(found: Iterable[Measurement]) -> None:
    """Raise `PluginError` if measurements of one name differ in title, unit or direction: they share a table row."""
    titles: dict[str, tuple[Any, ...]] = {}
    for measurement in found:
        titled = (measurement.title, measurement.unit, measurement.better)
        first = titles.setdefault(measurement.name, titled)
        if first != titled:
            raise PluginError(
                f"measurements named {measurement.name!r} must have the same title, unit and better direction; "
                f"these have {first} and {titled}: give them different names"
            )


# ---------------------------------------------------------------- diagnostics and conditions


def _drawing(evaluation: Evaluation) -> list[Measurement]:
    """Return the diagnostics of the prior's draws, such as an effective sample size, and adapted step sizes."""
    found = [
        Measurement(_key(f"draws-{name}"), value, f"draws: {name.replace('_', ' ')}", kind=PRIOR, detail=True)
        for name, value in evaluation.diagnostics().items()
    ]
    for part, (h, acceptance) in evaluation.model.adaptations.items():
        found += [
            Measurement("draws-step-size", h, "draws: adapted step size h", kind=PRIOR, part=part, detail=True),
            Measurement("draws-acceptance", acceptance, "draws: acceptance", kind=PRIOR, part=part, detail=True),
        ]
    return [item if item.found else _undefined(item) for item in found]


def _key(text: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", text.lower())


def _conditions(evaluation: Evaluation) -> dict[str, Any]:
    settings = evaluation.settings
    return {
        "extractors": {name: extractor.describe() for name, extractor in evaluation.extractors.items()},
        **evaluation.conditions(),
        "n_reference": len(evaluation.references),
        "split": settings.split,
        "range": "[-1, 1] as 8-bit pixels",
        "seed": evaluation.model.seed,
        "versions": {package: _version(package) for package in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
