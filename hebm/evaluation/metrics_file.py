"""`metrics.json`: the measurements of a run and the conditions they depend on, as plain JSON.

{"schema": 1, "measurements": [{"name": "fd", "kind": "prior", "value": 8.9, "error": null, …}, …],
 "conditions": {"n": 10000, "n_reference": 1498, "split": "train", "decode": "mean", "seed": 0,
                "extractors": {"classifier": {"name": "classifier", "sha256": "…"}}, …},
 "failures": [{"metric": "fid", "reason": "…", "again": "hebm evaluate runs/x"}],
 "seconds": 76.1, "seconds_training": 70.9}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from hebm.errors import CheckpointError, HebmError, PluginError
from hebm.evaluation.metric import Measurement, Scalar
from hebm.store.metrics import finite

SCHEMA = 1

OF_IMAGES = ("n", "n_reference", "split", "decode", "range")
"""Conditions of the run that decide every measurement of a kind of images."""


UNFINISHED = "unfinished"
"""Condition of every measurement of a run whose training is not over: the place that it has reached."""


@attrs.frozen
class Failure:
    """A metric that failed.

    Arguments:
        metric: its registered name.
        reason: why, in a sentence.
        traceback: where; it is written to the run's log, and not to `metrics.json`.
        again: the command that tries again.
    """

    metric: str
    reason: str
    traceback: str = ""
    again: str = ""

    def to_json(self) -> dict[str, str]:
        """Return what `metrics.json` has of it."""
        return {"metric": self.metric, "reason": self.reason, "again": self.again}


@attrs.frozen
class Results:
    """The results of a run's metrics.

    Arguments:
        measurements: in the order in which the metrics returned them; no two have the same key.
        conditions: of the whole evaluation: extractors, n, n_reference, split, decode, range, seed and so on.
        seconds: what training and evaluation took.
        seconds_training: what training alone took; None where it is unknown.
        failures: the metrics that failed.
    """

    measurements: tuple[Measurement, ...] = ()
    conditions: Mapping[str, Any] = attrs.field(factory=dict)
    seconds: float | None = None
    seconds_training: float | None = None
    failures: tuple[Failure, ...] = ()

    def get(
        self, name: str, kind: str | None = None, part: str = "", extractor: str | None = None
    ) -> Measurement | None:
        """Return the measurement of this key, or None; without an extractor, the first of this name, kind and part."""
        for found in self.measurements:
            if found.key == (name, kind, part, found.extractor if extractor is None else extractor):
                return found
        return None

    def after_training(self, seconds: float, unfinished: str = "") -> Results:
        """Return the same results with what is known of training.

        Arguments:
            seconds: what training took; they are added to those of evaluation.
            unfinished: the place that training has reached, if it is not over; a condition of all results.
        """
        both = seconds + (self.seconds or 0.0)
        conditions = {**self.conditions, UNFINISHED: unfinished} if unfinished else self.conditions
        return attrs.evolve(self, conditions=conditions, seconds=round(both, 3), seconds_training=round(seconds, 3))

    def tried_again_by(self, command: str) -> Results:
        """Return the same results; their failures name the command that tries again."""
        return attrs.evolve(self, failures=tuple(attrs.evolve(failed, again=command) for failed in self.failures))

    def require_all(self) -> None:
        """Raise `HebmError` if a metric failed, with the command that tries again."""
        if self.failures:
            names, commands = ", ".join(f.metric for f in self.failures), {f.again for f in self.failures if f.again}
            again = f"; try again with  {' or '.join(sorted(commands))}" if commands else ""
            raise HebmError(f"failed: {names}; everything else was measured{again}")

    @property
    def extractors(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the description of each extractor that was used, by name."""
        found: Mapping[str, Mapping[str, Any]] = self.conditions.get("extractors") or {}
        return found

    def conditions_of(self, measurement: Measurement) -> dict[str, Scalar]:
        """Return everything that must be equal for another number to be comparable with this one."""
        found = {key: self.conditions.get(key) for key in OF_IMAGES} if measurement.kind is not None else {}
        found |= {UNFINISHED: self.conditions[UNFINISHED]} if UNFINISHED in self.conditions else {}
        found |= measurement.conditions
        used = self.extractors.get(str(found.get("extractor")))
        return found if used is None else {**found, "extractor": f"{used.get('name')} {used.get('sha256')}"}

    def to_json(self) -> dict[str, Any]:
        """Return the content of `metrics.json`: plain dicts, lists, texts and numbers."""
        return {
            "schema": SCHEMA,
            "measurements": [found.to_json() for found in self.measurements],
            "failures": [failed.to_json() for failed in self.failures],
            "conditions": finite(self.conditions),
            "seconds": self.seconds,
            "seconds_training": self.seconds_training,
        }


def from_json(read: Any, path: Path) -> Results:
    """Return what the parsed content of `metrics.json` means.

    Arguments:
        read: the content.
        path: of the file, for errors.

    Raises `CheckpointError` if it has another schema or shape.
    """
    schema = read.get("schema") if isinstance(read, dict) else None
    if schema != SCHEMA:
        raise _damaged(path, f"it has schema {schema!r}, expected {SCHEMA}")
    try:
        return _results(read)
    except (PluginError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, why: Exception | str) -> CheckpointError:
    return CheckpointError(f"{path} is damaged, or not of this version: {why}; make it again with hebm evaluate")


def _results(read: Mapping[str, Any]) -> Results:
    conditions = dict(read["conditions"])
    if not all(isinstance(used, Mapping) for used in dict(conditions.get("extractors") or {}).values()):
        raise ValueError("conditions.extractors must be tables")
    measurements = tuple(Measurement(**entry) for entry in read["measurements"])
    if len({found.key for found in measurements}) < len(measurements):
        raise ValueError("two measurements have the same name, kind, part and extractor")
    failures = tuple(Failure(**entry) for entry in read.get("failures", ()))
    return Results(measurements, conditions, _seconds(read["seconds"]), _seconds(read["seconds_training"]), failures)


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)
