"""Where a module computes: its device and its floating-point type."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's parameters, or of its buffers if it has none; the CPU without both."""
    return next((tensor.device for tensor in _tensors(module)), torch.device("cpu"))


def floating_type(module: nn.Module) -> torch.dtype:
    """Return the type of a module's parameters, or of its buffers if it has none; float32 without both."""
    return next((tensor.dtype for tensor in _tensors(module) if tensor.is_floating_point()), torch.float32)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(module.parameters(), module.buffers())
