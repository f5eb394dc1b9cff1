"""Watching a short-run chain: figures of every step, states of a few."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hebm.interfaces import Info
from hebm.report.figure_data import Band, ChainData
from hebm.sampling import Trace

_MOST_POINTS = 240


class Recorder:
    """An observer that keeps every step's figures, and u after evenly spaced steps of a chain of unknown length.

    It counts its calls: a prior that runs several chains one after another is seen as one long chain. Whenever twice
    `states` are kept, every other is dropped and the distance between two doubles.

    Arguments:
        states: how many states to keep at least, for a chain that is as long.
    """

    def __init__(self, states: int) -> None:
        self.trace, self.length, self.most, self.every = Trace(), 0, 2 * states, 1
        self.kept: list[tuple[int, Tensor]] = []

    def __call__(self, step: int, state: Any, info: Info) -> None:
        """Keep this step's figures, and perhaps u `(B, D)`."""
        self.trace(step, state, info)
        self.length += 1
        if self.length % self.every:
            return
        self.kept.append((self.length, state[0].clone()))
        if len(self.kept) >= self.most:
            self.kept, self.every = self.kept[1::2], 2 * self.every

    def states(self, start: Tensor, end: Tensor) -> list[tuple[int, Tensor]]:
        """(steps done, u `(B, D)`) from the start of the chain to its end."""
        return [(0, start), *(kept for kept in self.kept if kept[0] < self.length), (self.length, end)]


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of the indices 0 … count − 1, evenly spread, both ends among them."""
    if count <= most:
        return list(range(count))
    return torch.linspace(0, count - 1, most).round().long().tolist()


def summary(recorder: Recorder, states: Sequence[tuple[int, Tensor]], tilts: Sequence[Tensor]) -> ChainData:
    """The figures of a chain.

    Arguments:
        recorder: saw it.
        states: (steps done, u) from start to end.
        tilts: f of each state, `(B,)`; empty for a prior without a tilt.
    """
    points = evenly(recorder.length, _MOST_POINTS)
    accepted = recorder.trace.accepted
    end = states[-1][1]
    return ChainData(
        length=recorder.length,
        chains=len(end),
        nonfinite=int((~end.isfinite().all(1)).sum()),
        log_density=band(points, [recorder.trace.values[i] for i in points]),
        grad_norm=band(points, [recorder.trace.grad_norms[i] for i in points]),
        f=band([step for step, _ in states], tilts) if tilts else None,
        frames=[],
        acceptance=torch.stack(accepted).double().mean().item() if accepted else None,
    )


def band(steps: list[int], rows: Sequence[Tensor]) -> Band:
    """Mean and 10 to 90 % band over the finite values of each row `(B,)`; NaN where there are none."""
    values = torch.stack(list(rows)).double().cpu()
    values = values.masked_fill(~values.isfinite(), torch.nan)
    low, high = values.nanquantile(torch.tensor([0.1, 0.9], dtype=torch.float64), dim=1)
    return Band(steps, values.nanmean(1).tolist(), low.tolist(), high.tolist())
