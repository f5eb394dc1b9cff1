"""Read and write `metrics.json`: the measurements of a run and their conditions, as plain JSON.

{"schema": 1, "measurements": [{"name": "fd", "kind": "prior", "value": 8.9, "error": null, …}, …],
 "conditions": {"n": 10000, "n_reference": 1498, "split": "train", "decode": "mean", "seed": 0,
                "extractors": {"classifier": {"name": "classifier", "sha256": "…"}}, …},
 "failures": [{"metric": "fid", "reason": "…", "again": "hebm evaluate runs/x"}],
 "seconds": 76.1, "seconds_training": 70.9}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs

from hebm.errors import HebmError
from hebm.evaluation.metric import Measurement, Scalar
from hebm.store.json_shapes import ShapeError, damaged, shaped
from hebm.store.metrics import finite

SCHEMA = 1

OF_IMAGES = ("n", "n_reference", "split", "decode", "range")
"""Conditions of the run that every measurement of a kind of images depends on."""


UNFINISHED = "unfinished"
"""Name of the condition with the place that an unfinished training has reached. All measurements have it."""


@attrs.frozen
class Failure:
    """A metric that failed.

    Arguments:
        metric: its registered name.
        reason: the reason, in a sentence.
        traceback: the traceback, which is written to the run's log but not to `metrics.json`.
        again: the command that tries again.
    """

    metric: str
    reason: str
    traceback: str = ""
    again: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the entry in `metrics.json`."""
        return {"metric": self.metric, "reason": self.reason, "again": self.again}


@attrs.frozen
class Results:
    """The results of a run's metrics.

    Arguments:
        measurements: in the order in which the metrics returned them; no two have the same key.
        conditions: conditions of the whole evaluation: extractors, n, n_reference, split, decode, range, seed, ….
        seconds: duration of training and evaluation together.
        seconds_training: duration of training; None if unknown.
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
        """Return the measurement with this key, or None. Without `extractor`, return the first that matches."""
        for found in self.measurements:
            if found.key == (name, kind, part, found.extractor if extractor is None else extractor):
                return found
        return None

    def after_training(self, seconds: float, unfinished: str = "") -> Results:
        """Return the same results with the duration and state of training.

        Arguments:
            seconds: duration of training, which is added to that of evaluation.
            unfinished: the place that an unfinished training has reached, or ""; it becomes a condition of all results.
        """
        both = seconds + (self.seconds or 0.0)
        conditions = {**self.conditions, UNFINISHED: unfinished} if unfinished else self.conditions
        return attrs.evolve(self, conditions=conditions, seconds=round(both, 3), seconds_training=round(seconds, 3))

    def tried_again_by(self, command: str) -> Results:
        """Return the same results with this command in every failure."""
        return attrs.evolve(self, failures=tuple(attrs.evolve(failed, again=command) for failed in self.failures))

    def require_all(self) -> None:
        """Raise `HebmError` if a metric failed, with the command that tries again."""
        if self.failures:
            names, commands = ", ".join(f.metric for f in self.failures), {f.again for f in self.failures if f.again}
            again = f"; try again with  {' or '.join(sorted(commands))}" if commands else ""
            raise HebmError(f"failed: {names}; all other metrics were measured{again}")

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


@attrs.frozen
class _Conditions:
    """The shape of `conditions`. An evaluation by a plugin may have more keys."""

    MORE_KEYS: ClassVar[bool] = True

    extractors: Mapping[str, Mapping[str, Any]] | None = None
    n: int | None = None
    n_reference: int | None = None
    split: str | None = None
    decode: str | None = None
    chain_steps: int | None = None
    start_proposals: int | None = None
    after: str | None = None
    range: str | None = None
    seed: int | None = None
    versions: Mapping[str, str | None] | None = None
    unfinished: str = ""


@attrs.frozen
class _File:
    """The shape of `metrics.json`. A named evaluation also has its settings."""

    schema: int
    measurements: tuple[Measurement, ...]
    conditions: Mapping[str, Any]
    seconds: float | None
    seconds_training: float | None
    failures: tuple[Failure, ...] = ()
    evaluate: Mapping[str, Any] | None = None


def from_json(read: Any, path: Path) -> Results:
    """Convert the parsed content of `metrics.json` to results.

    Arguments:
        read: the parsed content.
        path: path of the file, for errors.

    Raises `CheckpointError` with the key if the content has another schema or shape.
    """
    schema = read.get("schema") if isinstance(read, dict) else None
    with damaged(path, "create it again with hebm evaluate"):
        if schema != SCHEMA:
            raise ShapeError(f"it has schema {schema!r}, expected {SCHEMA}")
        return _results(shaped(_File, read))


def conditions_of(read: Any, key: str) -> dict[str, Any]:
    """Return the conditions of an evaluation. Raises `ShapeError` with the key if the JSON has another shape."""
    shaped(_Conditions, read, key)
    return dict(read)


def _results(file: _File) -> Results:
    conditions = conditions_of(file.conditions, "conditions")
    if len({found.key for found in file.measurements}) < len(file.measurements):
        raise ShapeError("measurements: two have the same name, kind, part and extractor")
    return Results(file.measurements, conditions, file.seconds, file.seconds_training, file.failures)
