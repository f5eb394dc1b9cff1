"""`metrics.json`: what the metrics found, and all that is needed to read it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from hebm.errors import PluginError
from hebm.evaluate.evaluation import Evaluation

_PACKAGES = ("hebm", "torch", "torchvision", "torch-fidelity")


def evaluate(evaluation: Evaluation) -> dict[str, Any]:
    """Compute every metric of the settings.

    Returns a dictionary for `metrics.json`: the metrics' entries merged, "drawing" (means of what the prior says of
    its draws, an effective sample size, say), and beside them "extractor" (and
    "extractors" if there were several), "n", "n_reference", "split", "decode", "chain_steps", "milestone", "range",
    "seed", "versions", "seconds".

    Raises `PluginError` if two metrics disagree about one entry, `NonFiniteError` if images are not finite.
    """
    started = time.perf_counter()
    found: dict[str, Any] = {}
    for metric in evaluation.settings.metrics:
        _merge(found, metric.compute(evaluation), type(metric).__name__)
    drawing = {"drawing": figures} if (figures := evaluation.drawing()) else {}
    return {**found, **drawing, **_conditions(evaluation), "seconds": round(time.perf_counter() - started, 3)}


def _conditions(evaluation: Evaluation) -> dict[str, Any]:
    settings = evaluation.settings
    used = {name: extractor.describe() for name, extractor in evaluation.extractors.items()}
    main = used.get(settings.extractor_name) or next(iter(used.values()), None)
    conditions = {
        "extractor": main,
        "n": settings.samples,
        "n_reference": len(evaluation.references),
        "split": settings.split,
        "decode": settings.decode,
        "chain_steps": settings.chain_steps,
        "milestone": settings.milestone,
        "range": "[-1, 1] as 8-bit pixels",
        "seed": evaluation.seed,
        "versions": {package: _version(package) for package in _PACKAGES},
    }
    return conditions | ({"extractors": used} if len(used) > 1 else {})


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _merge(into: dict[str, Any], entries: Mapping[str, Any], metric: str, path: str = "") -> None:
    for key, value in entries.items():
        here = into.setdefault(key, {} if isinstance(value, Mapping) else value)
        if isinstance(value, Mapping) and isinstance(here, dict):
            _merge(here, value, metric, f"{path}{key}.")
        elif here != value:
            raise PluginError(
                f"metric {metric} says {path}{key} = {value!r}, another metric said {here!r}; leave one out"
            )
