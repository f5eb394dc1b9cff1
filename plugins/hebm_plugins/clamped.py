"""The normal of NVAE (arXiv 2007.03898, and its published code): mean and log deviation softly clamped to [−5, 5]."""

from __future__ import annotations

from torch import Tensor

from hebm.normals import Normal
from hebm_plugins.precision import full_precision

LIMIT = 5.0
FLOOR = 0.01


def soft_clamp(raw: Tensor) -> Tensor:
    """Return 5 tanh(raw / 5): the identity near 0, within ±5 everywhere; in float32 at least, even under autocast."""
    return LIMIT * (full_precision(raw) / LIMIT).tanh()


def clamped_normal(raw_mean: Tensor, raw_log_std: Tensor, log_std_floor: float | None = None) -> Normal:
    """Return N(5 tanh(m / 5), (exp(5 tanh(s / 5)) + 0.01)²) for raw outputs m, s of a network, of the same shape.

    Raw zeros give a deviation of 1.01, not 1.

    Arguments:
        raw_mean: m, before the clamp.
        raw_log_std: s, before the clamp.
        log_std_floor: least value of 5 tanh(s / 5), if any.
    """
    log_std = soft_clamp(raw_log_std)
    if log_std_floor is not None:
        log_std = log_std.clamp(min=log_std_floor)
    return Normal(soft_clamp(raw_mean), log_std.exp() + FLOOR)
