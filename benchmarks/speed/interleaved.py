"""Times of variants taken in turn, A B C A B C …, so that other load on the machine meets all of them alike."""

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
        model: what was run.
        name: which variant over which.
        value: median of the ratios of neighbouring times.
        bar: what it may be at most, or None where it is only reported.
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
    """CPU time with one thread (other processes do not count), the wall's with several (waiting threads spin)."""
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def take_turns(variants: Mapping[str, Work], repeats: int, unit: int = 1) -> Times:
    """Seconds of each variant, `repeats` times each after one round to warm up, divided by `unit`."""
    now, times = clock(), {name: [] for name in variants}
    for work in variants.values():
        work()
    gc.disable()
    try:
        for turn in range(repeats):
            # every other round backwards: none always follows the same one
            for name in list(variants)[:: 1 if turn % 2 else -1]:
                start = now()
                variants[name]()
                times[name].append((now() - start) / unit)
    finally:
        gc.enable()
    return times


def ratio(model: str, name: str, over: Sequence[float], under: Sequence[float], bar: float | None = None) -> Ratio:
    """`over` / `under`, pairwise by turn."""
    value = statistics.median(a / b for a, b in zip(over, under, strict=True))
    return Ratio(model, name, value, bar, 1e3 * statistics.median(over))


def environment() -> dict[str, Any]:
    """What the figures depend on."""
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
    """Write results to a file, if one was asked for."""
    if path is not None:
        path.write_text(json.dumps(list(results), indent=2) + "\n")
