"""Damage images by increasing strengths, to check whether a distance rises with the strength."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from hebm.noise import Noise

Damage = Callable[[Tensor, float, Noise], Tensor]
"""Maps images `(B, C, H, W)` in [−1, 1], a strength and a noise to damaged images in [−1, 1]. Strength 0 does nothing.

Each image is damaged independently, with the numbers of its row of the noise.
"""

_SIDE = 32
"""The largest side for which a blur of 1 has a deviation of one pixel. For larger sides it grows in proportion."""


def blurred(images: Tensor, strength: float, noise: Noise) -> Tensor:
    """Convolve with a Gaussian of deviation s max(1, side / 32) pixels; edges are repeated."""
    sigma = strength * max(1.0, max(images.shape[2:]) / _SIDE)
    if not sigma:
        return images
    reach = min(math.ceil(3 * sigma), *images.shape[2:])
    places = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = torch.softmax(-0.5 * (places / sigma).square(), 0).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    across = F.conv2d(padded, kernel, groups=images.shape[1])
    return F.conv2d(across, kernel.transpose(2, 3), groups=images.shape[1])


def noisy(images: Tensor, strength: float, noise: Noise) -> Tensor:
    """Return clamp(x + s ε), ε ~ N(0, I): s in units of x, whose range is [−1, 1]."""
    drawn = noise.normal(*images.shape).to(images.device, images.dtype)
    return (images + strength * drawn).clamp(-1, 1)


def contrasted(images: Tensor, strength: float, noise: Noise) -> Tensor:
    """Return clamp(m + (1 + s)(x − m)), with the mean m of each image: s = 1 doubles the contrast."""
    middle = images.mean((1, 2, 3), keepdim=True)
    return (middle + (1 + strength) * (images - middle)).clamp(-1, 1)


DAMAGES: dict[str, Damage] = {"blur": blurred, "noise": noisy, "contrast": contrasted}
