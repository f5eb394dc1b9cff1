"""Time variants in turn, A B C A B C …, so that other load on the machine affects all of them equally."""

from __future__ import annotations

import gc
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

Work = Callable[[], object]
Times = dict[str, list[float]]


class Ratio(NamedTuple):
    """One row of the table.

    Arguments:
        model: name of the model or case.
        name: names of the two variants.
        value: median of the ratios of times from the same turn.
        bar: largest allowed value; None if it is only reported.
        milliseconds: median time of the numerator, per unit of work.
    """

    model: str
    name: str
    value: float
    bar: float | None
    milliseconds: float

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without one."""
        return None if self.bar is None else self.value <= self.bar


def clock() -> Callable[[], float]:
    """Return CPU time with one thread (excludes other processes), wall time with several (waiting threads spin)."""
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def take_turns(variants: Mapping[str, Work], repeats: int, unit: int = 1) -> Times:
    """Time each variant `repeats` times after one round to warm up. Return seconds divided by `unit`."""
    now, times = clock(), {name: [] for name in variants}
    for work in variants.values():
        work()
    gc.disable()
    try:
        for turn in range(repeats):
            # alternate the order, so that no variant always follows the same one
            for name in list(variants)[:: 1 if turn % 2 else -1]:
                start = now()
                variants[name]()
                times[name].append((now() - start) / unit)
    finally:
        gc.enable()
    return times


def ratio(model: str, name: str, over: Sequence[float], under: Sequence[float], bar: float | None = None) -> Ratio:
    """Return the median of `over` / `under`, paired by turn."""
    value = statistics.median(a / b for a, b in zip(over, under, strict=True))
    return Ratio(model, name, value, bar, 1e3 * statistics.median(over))


def environment() -> dict[str, Any]:
    """Return the properties of the machine and of torch that the times depend on."""
    return {
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
        "clock": clock().__name__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} x {len(names)}" if names else platform.processor()


def show(title: str, rows: Sequence[Ratio]) -> None:
    """Print the environment and a table."""
    print(title, ", ".join(f"{key} {value}" for key, value in environment().items()), sep="\n")
    print(f"{'model':<12} {'ratio of':<58} {'value':>7} {'bar':>6} {'':<4} {'ms':>9}")
    for row in rows:
        bar = "" if row.bar is None else f"{row.bar:.2f}"
        verdict = {True: "ok", False: "OVER", None: ""}[row.met]
        print(f"{row.model:<12} {row.name:<58} {row.value:>7.3f} {bar:>6} {verdict:<4} {row.milliseconds:>9.3f}")


def as_json(rows: Sequence[Ratio], **more: Any) -> dict[str, Any]:
    """Return the table as data."""
    return {**environment(), "ratios": [{**row._asdict(), "met": row.met} for row in rows], **more}


def write(path: Path | None, results: Sequence[Mapping[str, Any]]) -> None:
    """Write results to the file, if a path is given."""
    if path is not None:
        path.write_text(json.dumps(list(results), indent=2) + "\n")
