"""Images in [−1, 1] and their 8-bit levels: x = v/127.5 − 1, v = 0 … 255."""

from __future__ import annotations

import torch
from torch import Tensor


def to_pixels(images: Tensor) -> Tensor:
    """Convert images in [−1, 1] to 8-bit pixels: v = round(127.5 (x + 1)), clipped to 0 … 255."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def from_pixels(pixels: Tensor, like: Tensor) -> Tensor:
    """Convert 8-bit pixels to x = v/127.5 − 1, with the type and device of `like`."""
    return pixels.to(like).div_(127.5).sub_(1)
