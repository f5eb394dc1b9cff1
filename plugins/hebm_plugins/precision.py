"""Convert what an autocast network returns back to full precision, before it becomes a parameter of a distribution."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(raw: Tensor) -> Tensor:
    """Convert to float32 at least: log-probabilities and KLs of bf16 parameters would be noise."""
    return raw.to(torch.promote_types(raw.dtype, torch.float32))


def no_autocast(like: Tensor) -> AbstractContextManager[object]:
    """Switch off an autocast around it; tensors without data, on device "meta", have none."""
    return nullcontext() if like.is_meta else torch.autocast(like.device.type, enabled=False)
