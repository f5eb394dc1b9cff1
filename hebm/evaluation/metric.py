"""The interface of metrics, and the measurements that they return."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import attrs

from hebm import registry
from hebm.errors import PluginError
from hebm.evaluation.kinds import KINDS

if TYPE_CHECKING:
    from hebm.evaluation.evaluation import Evaluation
    from hebm.evaluation.plan import EvaluationPlan

Scalar = str | int | float | bool | None
Better = Literal["lower", "higher"]
Key = tuple[str, str | None, str, str]

SHARE = "share"
"""Unit of a fraction of 1. The value is stored as a fraction and shown in per cent."""

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_TEXTS = ("name", "title", "unit", "part", "note", "summary")


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _finite(error: float | None) -> float | None:
    return None if error is None or not math.isfinite(error) else float(error)


@attrs.frozen
class Measurement:
    """One number that a metric measured, with everything needed to read, show and compare it.

    Arguments:
        name: name in lower case, such as "fd"; name, `kind`, `part` and extractor identify the measurement.
        value: the number; None or NaN if it is undefined, for which `note` gives the reason.
        title: title for readers, such as "Fréchet distance".
        error: standard error; None if unknown.
        unit: unit, such as "nats per image"; `SHARE` for a fraction of 1, "" for a pure number.
        kind: kind of images, from `hebm.evaluation.kinds`; None if it does not describe a set of images.
        part: distinguishes measurements of the same name, such as "layer 1".
        better: which direction is better; None if neither.
        conditions: settings that another number must share to be comparable, such as `{"k": 100}`. Features are named
            by `{"extractor": name}`, which also distinguishes measurements of the same name, kind and part. For a
            `kind`, N, split and decoding of the run count too.
        note: a warning, or the reason why the number is missing.
        summary: the result in a sentence or two. It leads the page, and its measurement comes first in tables.
        detail: whether it is a detail, which appears on the page and in files but not in `hebm compare`'s table.

    Raises `PluginError` for a name, kind, direction or condition that is not allowed.

    Example:
        >>> Measurement("nll", 81.2, "negative log likelihood", error=0.3, unit="nats per image", better="lower").key
        ('nll', None, '', '')
    """

    name: str
    value: float = attrs.field(converter=_float)
    title: str
    error: float | None = attrs.field(default=None, converter=_finite)
    unit: str = ""
    kind: str | None = None
    part: str = ""
    better: Better | None = None
    conditions: Mapping[str, Scalar] = attrs.field(factory=dict)
    note: str = ""
    summary: str = ""
    detail: bool = False

    def __attrs_post_init__(self) -> None:
        """Check the fields beyond their types."""
        for wrong in self._mistakes():
            raise PluginError(f"measurement {self.name!r}: {wrong}")

    def _mistakes(self) -> Iterable[str]:
        for field in _TEXTS:
            if not isinstance(getattr(self, field), str):
                yield f"{field} must be text, got {getattr(self, field)!r}"
        if not _NAME.fullmatch(self.name):
            yield 'the name may have lower-case letters, digits, "-" and "."'
        if self.kind is not None and self.kind not in KINDS:
            yield f"kind {self.kind!r} is not one of {', '.join(KINDS)}; use None and a part"
        if self.better not in (None, *get_args(Better)):
            yield f'better must be "lower", "higher" or None, got {self.better!r}'
        if not isinstance(self.detail, bool):
            yield f"detail must be true or false, got {self.detail!r}"
        if not isinstance(self.conditions, Mapping):
            yield f"conditions must be a mapping, got {self.conditions!r}"
        for key, value in self.conditions.items():
            if not isinstance(value, Scalar) or not isinstance(key, str):
                yield f"condition {key!r} must be text, a number, true, false or None, got {value!r}"

    @property
    def extractor(self) -> str:
        """Return the name of the extractor whose features were used, or ""."""
        return str(self.conditions.get("extractor", ""))

    @property
    def key(self) -> Key:
        """Return the identity of the measurement within a run: name, kind, part and extractor."""
        return self.name, self.kind, self.part, self.extractor

    @property
    def found(self) -> bool:
        """Whether the value is defined."""
        return math.isfinite(self.value)

    def to_json(self) -> dict[str, Any]:
        """Return all fields for a JSON file. A value that is not finite becomes null."""
        conditions = dict(self.conditions)
        return {**attrs.asdict(self), "value": self.value if self.found else None, "conditions": conditions}


class MetricRecipe(ABC):
    """Measures a trained model in a run's evaluation. Registered in the group `hebm_metrics`."""

    group: ClassVar[str] = "hebm_metrics"

    def check(self, plan: EvaluationPlan) -> Sequence[str]:
        """Return notes on numbers that will be missing or unreliable. Called before training; must be fast.

        Call `plan.extractor` for every extractor that `compute` uses, which checks the images and the weights.

        Raises `ConfigError` if the metric cannot be computed with these images, settings or this model.
        """
        return ()

    def image_counts(self, plan: EvaluationPlan) -> Mapping[str, int]:
        """Return how many images of each kind the metric draws and passes to extractors, to estimate its time.

        Do not override this if other work dominates; `hebm check` then says that the time is not counted.
        """
        return {}

    @abstractmethod
    def compute(self, evaluation: Evaluation) -> Iterable[Measurement]:
        """Measure a trained model.

        Metrics may return the same measurement, but then it must be equal. A value that is None or NaN is shown as
        undefined. An exception fails only this metric: the failure is shown with its reason, and the other metrics are
        computed. `evaluation.show` puts images on the page.

        `evaluation.kinds` are the kinds of images to compare with the data. A metric that measures these kinds, and
        reads neither backbone nor prior from its plan, can also measure given images (`hebm measure`).
        """


def called(metric: MetricRecipe) -> str:
    """Return the registered name of a metric, or its class name if it is not registered."""
    try:
        return registry.name_of(metric)
    except PluginError:
        return type(metric).__name__
