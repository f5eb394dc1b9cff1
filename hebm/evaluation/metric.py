"""What a metric is, and the measurements that it returns."""

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
"""Unit of a part of 1: the value is stored as it is and shown in per cent."""

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_TEXTS = ("name", "title", "unit", "part", "note", "summary")


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _finite(error: float | None) -> float | None:
    return None if error is None or not math.isfinite(error) else float(error)


@attrs.frozen
class Measurement:
    """One number that a metric found, with all that is needed to read, show and compare it.

    Arguments:
        name: identifies it together with `kind`, `part` and extractor: lower case, such as "fd".
        value: the number; None or NaN where there is none, and `note` says why.
        title: what readers see, such as "Fréchet distance".
        error: its standard error; None if unknown.
        unit: such as "nats per image"; `SHARE` for a part of 1, "" for a pure number.
        kind: which images it is about, from `hebm.evaluation.kinds`; None if not about a set of images.
        part: which of several with the same name, such as "layer 1".
        better: which direction is better; None if neither.
        conditions: settings that another number must share to be comparable, such as `{"k": 100}`. Features are named
            by `{"extractor": name}`, which also tells apart measurements of one name, kind and part. For a `kind`, N,
            split and decoding of the run count too.
        note: a warning, or the reason why the number is missing.
        summary: the result in a sentence or two. It leads the page, and its measurement comes first in tables.
        detail: whether it belongs among the details: on the page and in files, but not in `hebm compare`'s table.

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
        """Check what the annotations cannot."""
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
        """Return the name of the extractor in whose features it was measured, or ""."""
        return str(self.conditions.get("extractor", ""))

    @property
    def key(self) -> Key:
        """Return what identifies the measurement within a run: name, kind, part and extractor."""
        return self.name, self.kind, self.part, self.extractor

    @property
    def found(self) -> bool:
        """Whether there is a number."""
        return math.isfinite(self.value)

    def to_json(self) -> dict[str, Any]:
        """Return every field for a JSON file; a value that is not finite becomes null."""
        conditions = dict(self.conditions)
        return {**attrs.asdict(self), "value": self.value if self.found else None, "conditions": conditions}


class MetricRecipe(ABC):
    """What a run's evaluation measures; registered in the group `hebm_metrics`."""

    group: ClassVar[str] = "hebm_metrics"

    def check(self, plan: EvaluationPlan) -> Sequence[str]:
        """Return notes on what will be missing or hard to trust. Called before training; nothing is computed.

        Ask `plan.extractor` for every extractor that `compute` uses: it checks the images and the weights.

        Raises `ConfigError` if the images, the settings or the model do not allow the metric.
        """
        return ()

    def image_counts(self, plan: EvaluationPlan) -> Mapping[str, int]:
        """Return how many images of each kind it draws and passes to the extractors, to estimate its time.

        Leave it out where that is not what it costs: `hebm check` then says that its time is not counted.
        """
        return {}

    @abstractmethod
    def compute(self, evaluation: Evaluation) -> Iterable[Measurement]:
        """Measure a trained model. A measurement that another metric returns too must be equal to it.

        A value that is None or NaN is shown as undefined. What is raised fails this metric alone: the others are
        computed, and the failure is shown with its reason.

        `evaluation.show` puts images on the page.

        `evaluation.kinds` are the kinds of images to compare with the data. A metric that measures these, and asks its
        plan for no backbone or prior, can also measure images that no run made (`hebm measure`).
        """


def called(metric: MetricRecipe) -> str:
    """Return the registered name of a metric, or its class's if it came from Python and is not registered."""
    try:
        return registry.name_of(metric)
    except PluginError:
        return type(metric).__name__
