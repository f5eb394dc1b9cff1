"""Draw training curves from `metrics.jsonl`: for each phase, one panel per group of related metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from hebm.report.panels import Panel, bars, curves, heat
from hebm.report.plot_data import Numbers

_MOST_POINTS = 400
_MOST_LINES = 8
_LAYER = "_layer_"
_BOOKKEEPING = ("phase", "step", "total_step")


@attrs.frozen
class PhaseCurves:
    """The curves of one phase of training.

    Arguments:
        name: name of the phase.
        steps: number of steps done.
        panels: its curves.
        constant: values of metrics that never changed, which have no curve.
    """

    name: str
    steps: int
    panels: tuple[Panel, ...]
    constant: Mapping[str, float | None]


def training_curves(records: Sequence[Mapping[str, Any]]) -> list[PhaseCurves]:
    """Return the curves of each phase in the order of training."""
    names = list(dict.fromkeys(str(record.get("phase", "training")) for record in records))
    return [_phase(name, [r for r in records if str(r.get("phase", "training")) == name]) for name in names]


def phase_losses(records: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Sequence[int], Numbers]]:
    """Return (steps, losses) of each phase by name, thinned, in the order of training."""
    found: dict[str, tuple[list[int], list[float | None]]] = {}
    for record in records:
        if "loss" in record:
            steps, values = found.setdefault(str(record.get("phase", "training")), ([], []))
            steps.append(int(record.get("step", record["total_step"])))
            values.append(_number(record["loss"]))
    return {name: thinned(steps, values) for name, (steps, values) in found.items()}


def _phase(name: str, records: Sequence[Mapping[str, Any]]) -> PhaseCurves:
    steps = [int(record.get("step", record["total_step"])) for record in records]
    series = {key: [_number(record.get(key)) for record in records] for key in _keys(records)}
    constant = {key: values[-1] for key, values in series.items() if len(set(values)) == 1 and len(values) > 1}
    panels = []
    for keys in _families([key for key in series if key not in constant]):
        lines = {_label(key, keys): thinned(steps, series[key]) for key in keys}
        panels += _of_layers(_title(keys), lines) if _LAYER in keys[0] else [curves(_title(keys), lines)]
    return PhaseCurves(name, steps[-1], tuple(panels), constant)


def _of_layers(title: str, lines: Mapping[str, tuple[Sequence[int], Numbers]]) -> list[Panel]:
    """Draw a quantity of each layer over time, as lines or (for many layers) as a heat map, and its last values."""
    title = f"{title.partition(' layer')[0]} layers"
    over_time = (curves if len(lines) <= _MOST_LINES else heat)(title, lines)
    last = {name: values[-1] for name, (_, values) in lines.items()}
    return [over_time, bars(f"{title} at the end", last, "layer, top first")] if len(lines) > 1 else [over_time]


def _keys(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of numeric metrics, loss first. A null stands for a value that is not finite."""
    found = dict.fromkeys(key for record in records for key, value in record.items() if _is_figure(key, value))
    return sorted(found, key=lambda key: key != "loss")


def _is_figure(key: str, value: Any) -> bool:
    return key not in _BOOKKEEPING and (value is None or _number(value) is not None)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _families(keys: Sequence[str]) -> list[list[str]]:
    """Group metrics that share their first word, such as f_positive and f_negative, and loss with validation_loss."""
    families: dict[str, list[str]] = {}
    for key in keys:
        families.setdefault(_family(key), []).append(key)
    return list(families.values())


def _family(key: str) -> str:
    quantity, of_layer, _ = key.partition(_LAYER)
    return quantity + of_layer if of_layer else key.removeprefix("validation_").partition("_")[0]


def _common(keys: Sequence[str]) -> list[str]:
    """Return the words that all names of a family begin with."""
    split = [key.split("_") for key in keys]
    shared = []
    for words in zip(*split, strict=False):
        if len(set(words)) > 1:
            break
        shared.append(words[0])
    return shared


def _title(keys: Sequence[str]) -> str:
    return " ".join(_common(keys)) or _family(keys[0])


def _label(key: str, keys: Sequence[str]) -> str:
    return " ".join(key.split("_")[len(_common(keys)) :]) or key


def thinned(steps: Sequence[int], values: Numbers) -> tuple[list[int], Numbers]:
    """Return at most `_MOST_POINTS` points: means over equal spans of records, each at the last step of its span."""
    size = max(1, -(-len(steps) // _MOST_POINTS))
    starts = range(0, len(steps), size)
    return [steps[min(s + size, len(steps)) - 1] for s in starts], [_mean(values[s : s + size]) for s in starts]


def _mean(values: Numbers) -> float | None:
    """Return the mean, or None if a value is missing, so that a divergence stays visible."""
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if len(found) == len(values) else None
