"""Record a prior's chains: diagnostics of every step, and states at a few steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hebm.report.plot_data import Band, ChainData
from hebm.samplers import Info
from hebm.sampling import Trace

_MOST_POINTS = 240


class Recorder:
    """An observer that records the diagnostics of every step, and u after evenly spaced steps.

    Consecutive chains of a draw are shown as one, with steps numbered through.

    Arguments:
        lengths: number of steps of each chain by its transition's name, in order.
        states: number of states to keep between start and end.
    """

    def __init__(self, lengths: Mapping[str, int], states: int) -> None:
        self.trace, self.length = Trace(), sum(lengths.values())
        self.kept: dict[int, Tensor] = {}
        self._before, done = {}, 0
        for name, steps in lengths.items():
            self._before[name], done = done, done + steps
        self._wanted = set(evenly(self.length + 1, states + 2)[1:-1])

    def __call__(self, name: str, step: int, state: Any, info: Info) -> None:
        """Record this step's diagnostics, and u `(B, D)` if the step is one of the selected ones."""
        self.trace(name, step, state, info)
        done = self._before[name] + step + 1
        if done in self._wanted:
            self.kept[done] = state[0].clone()

    def states(self, start: Tensor, end: Tensor) -> list[tuple[int, Tensor]]:
        """Return (steps done, u `(B, D)`) from the start of the first chain to the end of the last."""
        return [(0, start), *self.kept.items(), (self.length, end)]


def evenly(count: int, most: int) -> list[int]:
    """Return at most `most` evenly spaced indices of 0 … count − 1, including both ends."""
    if count <= most:
        return list(range(count))
    return torch.linspace(0, count - 1, most).round().long().tolist()


def summary(recorder: Recorder, states: Sequence[tuple[int, Tensor]], tilts: Sequence[Tensor]) -> ChainData:
    """Return the chain data that the report shows.

    Arguments:
        recorder: the observer that recorded the chains.
        states: (steps done, u) from start to end.
        tilts: f of each state, `(B,)`; empty for a prior without a tilt.
    """
    points = evenly(recorder.length, _MOST_POINTS)
    accepted, norms = recorder.trace.accepted, recorder.trace.grad_norms
    end = states[-1][1]
    return ChainData(
        length=recorder.length,
        chains=len(end),
        nonfinite=int((~end.isfinite().all(1)).sum()),
        log_density=band(points, [recorder.trace.values[i] for i in points]),
        grad_norm=band(points, [norms[i] for i in points]) if len(norms) == recorder.length else None,
        f=band([step for step, _ in states], tilts) if tilts else None,
        frames=[step for step, _ in states],
        acceptance=torch.stack(accepted).double().mean().item() if accepted else None,
    )


def band(steps: list[int], rows: Sequence[Tensor]) -> Band:
    """Return mean and 10 to 90 % band over the finite values of each row `(B,)`; NaN for a row without any."""
    values = torch.stack(list(rows)).double().cpu()
    values = values.masked_fill(~values.isfinite(), torch.nan)
    low, high = values.nanquantile(torch.tensor([0.1, 0.9], dtype=torch.float64), dim=1)
    return Band(steps, values.nanmean(1).tolist(), low.tolist(), high.tolist())
