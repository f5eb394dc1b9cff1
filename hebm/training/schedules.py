"""Learning-rate schedules as closed forms of the step, in units of the full rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

DECAYS: Mapping[str, Callable[[float, float], float]] = {
    "constant": lambda p, final: 1.0,
    "linear": lambda p, final: 1 - (1 - final) * p,
    "cosine": lambda p, final: final + (1 - final) * 0.5 * (1 + math.cos(math.pi * p)),
    "exponential": lambda p, final: final**p,
}
"""Factors of the rate as functions of (p, final), with p the completed fraction of the decay. Each is 1 at p = 0, and
`final` at p = 1, except "constant"."""

EPOCH_COSINE = "epoch-cosine"


def warm_up(step: int, warmup: int, from_zero: bool = False) -> float:
    """Return min(1, (step + 1) / warmup), so the last step of the warm-up has the full rate.

    With `from_zero` it is step / warmup: the first step has rate 0, and the first step after the warm-up the full rate.
    """
    return min(1.0, (step if from_zero else step + 1) / warmup) if warmup else 1.0


def decayed(schedule: str, step: int, total: int, start: float, final: float) -> float:
    """Return the factor of a schedule whose decay starts after a fraction `start` of the steps."""
    p = max(0.0, step / max(total, 1) - start) / (1 - start) if start < 1 else 0.0
    return DECAYS[schedule](p, final)


def epoch_cosine(step: int, total: int, epoch: int, warmup: int, final: float) -> float:
    """Return the factor of NVAE's published schedule: step / W below W; then, within each epoch t = 0, 1, …, T,

        final + (b − final) (1 + cos(π t / T)) / 2,   b = (W − 1) / W

    where b is the factor at the end of the warm-up (1 without a warm-up), from which the published recursive cosine
    starts.

    Arguments:
        step: the step, 0 ≤ step < total.
        total: number of steps of the phase.
        epoch: steps per epoch; a shorter last epoch counts as one.
        warmup: W, a multiple of `epoch`.
        final: factor of the last epoch.
    """
    if step < warmup:
        return step / warmup
    start = (warmup - 1) / warmup if warmup else 1.0
    last = epochs_left(total, epoch, warmup) - 1
    progress = (step - warmup) // epoch / max(last, 1)
    return final + (start - final) * 0.5 * (1 + math.cos(math.pi * progress))


def epochs_left(total: int, epoch: int, warmup: int) -> int:
    """Return the number of epochs after the warm-up, including a shorter last one; 0 or less if none is left."""
    return -(-(total - warmup) // epoch)
