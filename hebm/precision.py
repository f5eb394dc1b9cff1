"""Measure whether bf16 is slower than float32 on this processor."""

from __future__ import annotations

import time
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

_SLOWER = 1.5
_REPEATS = 5


def bf16_note(device: torch.device) -> str:
    """Return a warning if convolutions in bf16 are clearly slower than in float32 on a CPU, or else ""."""
    if device.type != "cpu":
        return ""
    ratio = _seconds(torch.bfloat16) / _seconds(torch.float32)
    if ratio < _SLOWER:
        return ""
    return (
        f"this processor computes bf16 slowly: a convolution takes {ratio:.1f} times as long as in float32; set "
        'run.mixed_precision = "no"'
    )


@torch.no_grad()
def _seconds(dtype: torch.dtype) -> float:
    """Return the median seconds of a 3×3 convolution of 64 channels on 16 maps of 16×16."""
    maps, weights = torch.ones(16, 64, 16, 16, dtype=dtype), torch.ones(64, 64, 3, 3, dtype=dtype)
    return median(_timed(maps, weights) for _ in range(_REPEATS + 1))


def _timed(maps: Tensor, weights: Tensor) -> float:
    started = time.perf_counter()
    F.conv2d(maps, weights, padding=1)
    return time.perf_counter() - started
