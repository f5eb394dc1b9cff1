"""log N of the published code of DVP-VAE, with its small constant in the denominator."""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPSILON = 1e-10


def log_normal(value: Tensor, mean: Tensor, log_var: Tensor | float) -> Tensor:
    """Return −½ [log 2π + λ + (v − μ)² / (e^λ + 1e-10)] per element; λ is the log variance."""
    log_var = torch.as_tensor(log_var, dtype=mean.dtype, device=mean.device)
    return -0.5 * (math.log(2 * math.pi) + log_var + (value - mean).square() / (log_var.exp() + EPSILON))
