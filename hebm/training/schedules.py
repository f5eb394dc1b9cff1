"""Learning rates as closed forms of the step, in units of the full rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

DECAYS: Mapping[str, Callable[[float, float], float]] = {
    "constant": lambda p, final: 1.0,
    "linear": lambda p, final: 1 - (1 - final) * p,
    "cosine": lambda p, final: final + (1 - final) * 0.5 * (1 + math.cos(math.pi * p)),
    "exponential": lambda p, final: final**p,
}
"""Factor after a fraction p of the decay, from 1 at p = 0; all but "constant" end at `final`."""

EPOCH_COSINE = "epoch-cosine"


def warm_up(step: int, warmup: int) -> float:
    """(step + 1) / warmup, at most 1: the last step of the warm-up has the full rate."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def decayed(schedule: str, step: int, total: int, start: float, final: float) -> float:
    """The factor of a schedule that starts after the fraction `start` of the steps."""
    p = max(0.0, step / max(total, 1) - start) / (1 - start) if start < 1 else 0.0
    return DECAYS[schedule](p, final)


def epoch_cosine(step: int, total: int, epoch: int, warmup: int, final: float) -> float:
    """The schedule of NVAE's published code: step / W below W; then, constant within each epoch t = 0, 1, …, T,

        final + (b − final) (1 + cos(π t / T)) / 2,   b = (W − 1) / W

    b being what the warm-up ended at (1 without one), which the recursive cosine there goes on from.

    Arguments:
        step: 0 ≤ step < total.
        total: steps of the phase.
        epoch: steps per epoch; a shorter last one counts as one.
        warmup: W, a multiple of `epoch`.
        final: factor that the last epoch has.
    """
    if step < warmup:
        return step / warmup
    start = (warmup - 1) / warmup if warmup else 1.0
    last = epochs_left(total, epoch, warmup) - 1
    progress = (step - warmup) // epoch / max(last, 1)
    return final + (start - final) * 0.5 * (1 + math.cos(math.pi * progress))


def epochs_left(total: int, epoch: int, warmup: int) -> int:
    """Epochs after the warm-up, the last one perhaps shorter; not positive if there is none."""
    return -(-(total - warmup) // epoch)
