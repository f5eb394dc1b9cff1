"""Where half precision ends: what an autocast network returns, before it is a parameter of a distribution."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(raw: Tensor) -> Tensor:
    """The same numbers in float32 at least: log-probabilities and KLs of bf16 parameters would be noise."""
    return raw.to(torch.promote_types(raw.dtype, torch.float32))
